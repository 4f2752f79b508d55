"""Fractal noise: its spectrum as measured, its colours, its independence of the batch."""

import math

import numpy as np
import pytest
import torch

from genrep.errors import RecipeError
from genrep.generate.generators.procedural.fractal_noise import open_plain


def latents(generator, count, seed=0):
    return torch.from_numpy(generator.latent.sample(seed, np.arange(count)))


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (12, 9)])
def test_amplitudes_are_those_of_the_definition(shape):
    generator = open_plain(height=shape[0], width=shape[1])
    found = generator.amplitudes(torch.tensor([1.3]), torch.tensor([0.7]))[0]
    wanted = np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            fy, fx = min(i, shape[0] - i) / shape[0], min(j, shape[1] - j) / shape[1]
            wanted[i, j] = 1 / (fx**1.3 + fy**0.7) if i or j else 0.0
    wanted /= math.sqrt((wanted**2).mean())
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_noise_is_filtered_as_by_the_full_transform():
    generator = open_plain(height=10, width=9)
    noise = torch.randn(2, 3, 10, 9, generator=torch.Generator().manual_seed(0))
    filters = generator.amplitudes(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
    whole = torch.fft.ifft2(torch.fft.fft2(noise.double()) * filters[:, None].double())
    assert float(whole.imag.abs().max()) < 1e-12
    torch.testing.assert_close(generator.filtered(noise, filters), whole.real.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_exponent_of_the_spectrum_is_the_stated_one(exponent):
    """Amplitudes along the axes, where the other frequency is 0, fall as f^-a: the slope of their logarithms is fitted."""
    generator = open_plain(height=64, width=64, model="spectrum", flattest=exponent, steepest=exponent)
    z = latents(generator, 200)
    z[:, 3 * 64 * 64 + 1] = 0.0  # no difference between x and y
    power = torch.fft.rfft2(generator.synthesize(z)).abs().square().mean(dim=(0, 1))  # (64, 33)
    frequencies = np.arange(1, 32)
    for along in (power[0, 1:32], power[1:32, 0]):
        fitted = np.polyfit(np.log(frequencies), 0.5 * np.log(along.numpy()), 1)[0]
        assert -fitted == pytest.approx(exponent, abs=0.05)


def test_exponents_are_uniform_and_differ_a_little():
    generator = open_plain(height=8, width=8)
    z = latents(generator, 4000)[:, 192:194]
    slope_x, slope_y = generator.slopes(z)
    middle, difference = (slope_x + slope_y) / 2, (slope_x - slope_y) / 2
    quantiles = torch.quantile(middle, torch.tensor([0.1, 0.5, 0.9]))
    assert quantiles.tolist() == pytest.approx([0.8, 2.0, 3.2], abs=0.12)
    assert float(difference.std()) == pytest.approx(0.05, rel=0.05)


def test_colours_are_correlated_where_the_model_says_so():
    def correlations(model):
        generator = open_plain(height=32, width=32, model=model, flattest=0.5, steepest=0.5)
        images = generator.synthesize(latents(generator, 60)).flatten(2)
        images = images - images.mean(dim=2, keepdim=True)
        images = images / images.std(dim=2, keepdim=True)
        return ((images[:, 0] * images[:, 1]).mean(dim=1)).abs()

    assert float(correlations("spectrum").max()) < 0.3
    assert float(correlations("spectrum_color").mean()) > 0.35  # directions in space: 1/2 on average


def test_an_image_is_the_same_in_any_batch():
    for height, width in ((16, 16), (20, 31)):
        generator = open_plain(height=height, width=width)
        z = latents(generator, 7)
        together = generator.synthesize(z)
        assert together.shape == (7, 3, height, width)
        assert torch.equal(together, torch.cat([generator.synthesize(row[None]) for row in z]))
        assert torch.equal(together[:5], generator.synthesize(z[:5]))


def test_values_are_those_of_photographs():
    generator = open_plain(height=32, width=32)
    images = generator.synthesize(latents(generator, 300)) / 2 + 0.5
    assert images.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.483, 0.455, 0.401], abs=0.03)
    assert float(images.std(dim=(2, 3)).mean()) == pytest.approx(0.215, abs=0.03)


def test_all_numbers_have_a_gradient():
    generator = open_plain(height=16, width=16)
    z = latents(generator, 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.synthesize(z).square().sum(), z)
    assert bool(torch.isfinite(gradient).all())
    assert float((gradient == 0).float().mean()) < 0.01
    wiggle = torch.zeros_like(z)
    wiggle[0, 768] = 1e-2  # the exponent
    with torch.no_grad():
        after, before = (generator.synthesize(z + sign * wiggle).square().sum() for sign in (1, -1))
    assert float(gradient[0, 768]) == pytest.approx(float(after - before) / 2e-2, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 5000}, "width 5000: wanted a whole number from 8 to 4096"),
        ({"model": "pink"}, "model 'pink': known: spectrum"),
        ({"flattest": 3, "steepest": 2}, "steepest 2: wanted a number from 3 to 6"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(RecipeError) as caught:
        open_plain(**options)
    assert message in str(caught.value)
