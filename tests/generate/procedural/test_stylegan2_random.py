"""A StyleGAN2 of random weights: its weights are functions of the seed, its images of the latent."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genrep.errors import RecipeError
from genrep.generate.generators.procedural import stylegan2_random
from genrep.generate.generators.procedural.stylegan2_random import INITIALISATIONS, Draws, open_plain, wavelets

PINNED = [-1.0918476581573486, -0.5442583560943604, 0.6059165596961975]
SMALL = {"height": 32, "width": 32, "w_dim": 8, "channel_base": 128, "channel_max": 8}


def latents(generator, count, seed=0):
    return torch.from_numpy(generator.latent.sample(seed, np.arange(count)))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_images_depend_on_seed_and_latent_alone(initialisation):
    generator = open_plain(initialisation=initialisation, **SMALL)
    z = latents(generator, 6)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    images = open_plain(initialisation=initialisation, **SMALL).synthesize(z)
    assert torch.equal(torch.get_rng_state(), state)  # nothing comes from PyTorch's own generator
    assert torch.equal(images, generator.synthesize(z))
    assert images.shape == (6, 3, 32, 32)
    assert float((images[0] - images[1]).abs().max()) > 0.05
    assert not torch.equal(images, open_plain(initialisation=initialisation, seed=1, **SMALL).synthesize(z))
    alone = torch.cat([generator.synthesize(row[None]) for row in z])
    assert float((alone - images).abs().max()) < 1e-4 * float(images.max() - images.min())


def test_draws_are_the_same_for_ever():
    drawn = Draws(0).normals("b4.const", 2, 3)
    assert drawn.tolist() == Draws(0).normals("b4.const", 6).reshape(2, 3).tolist()
    torch.testing.assert_close(drawn.flatten()[:3], torch.tensor(PINNED), rtol=0, atol=0)
    assert not torch.equal(drawn, Draws(1).normals("b4.const", 2, 3))
    many = Draws(3).normals("many", 5000)
    assert float(many.mean()) == pytest.approx(0, abs=0.06)
    assert float(many.std()) == pytest.approx(1, abs=0.04)


def test_what_each_initialisation_draws():
    plain, high, sparse, oriented = (open_plain(initialisation=name, **SMALL) for name in INITIALISATIONS)
    layer = "b8.conv1"
    for generator, biased in ((plain, False), (high, False), (sparse, True), (oriented, True)):
        bias = generator.network.state_dict()[f"{layer}.bias"]
        assert bool((bias != 0).any()) == biased
        assert float(bias.abs().max()) <= 0.2
        assert float(generator.network.state_dict()["b8.torgb.bias"].abs().max()) == 0
    bank = wavelets()
    weight = high.network.state_dict()[f"{layer}.weight"]  # (O, I, 3, 3): a wavelet of the bank for each input
    for i in range(weight.shape[1]):
        direction = weight[0, i] / weight[0, i].norm()
        likeness = [float((direction * each / each.norm()).sum().abs()) for each in bank]
        assert max(likeness) == pytest.approx(1, abs=1e-5)
    assert plain.maps == []
    assert [tuple(maps.shape) for maps in sparse.maps] == [(16, s, s) for s in (4, 8, 8, 16, 16, 32, 32)]
    assert torch.equal(oriented.maps[5], oriented.maps[6])  # one for all layers
    torch.testing.assert_close(oriented.maps[4], F.avg_pool2d(oriented.maps[5], 2))
    assert not torch.equal(sparse.maps[5], sparse.maps[6])
    kurtosis = [float((g.maps[6] ** 4).mean() / (g.maps[6] ** 2).mean() ** 2) for g in (high, sparse)]
    assert kurtosis[0] < 4 < kurtosis[1]  # an envelope concentrates the noise


def test_the_network_is_stylegan2s():
    """The loop over blocks against the network's own forward pass, without noise."""
    generator = open_plain(initialisation="random", **SMALL)
    z = latents(generator, 3)
    ws = F.leaky_relu(z[:, : 8 * 8], 0.2).reshape(3, 8, 8)
    with torch.no_grad():
        own = generator._images(ws.unbind(dim=1), [None] * 7)
        torch.testing.assert_close(own, generator.network(ws, "none"))


def test_noise_enters_in_the_proportions_and_strength_that_the_latent_says():
    generator = open_plain(initialisation="sparse", **SMALL)
    mixtures, strengths = torch.zeros(2, 7 * 16), torch.zeros(2, 7)
    mixtures[:, 3 * 16 + 5] = 2.0  # layer 3: map 5 alone
    strengths[1, 3] = 9.0
    noise = generator._noise(mixtures, strengths)
    torch.testing.assert_close(noise[3][0, 0], 0.15 * generator.maps[3][5])
    torch.testing.assert_close(noise[3][1, 0], 0.3 * generator.maps[3][5])
    assert float(noise[2].abs().max()) == 0


def test_any_size_is_cut_from_the_middle_of_a_power_of_two():
    options = {**SMALL, "height": 20, "width": 30}
    generator = open_plain(**options)
    assert generator.image_shape == (20, 30)
    assert generator.config.resolution == 32
    z = latents(generator, 2)
    assert torch.equal(generator.synthesize(z), open_plain(**SMALL).synthesize(z)[:, :, 6:26, 1:31])
    assert open_plain(**{**SMALL, "height": 33}).config.resolution == 64


def test_all_numbers_have_a_gradient():
    generator = open_plain(initialisation="oriented", **SMALL)
    z = latents(generator, 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.synthesize(z).pow(3).sum(), z)
    assert bool(torch.isfinite(gradient).all())
    assert float((gradient == 0).float().mean()) < 0.05
    assert sum(generator.latent.chunks) == generator.latent.dim == 8 * 8 + 16 + 7 + 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initialisation": "zeros"}, "initialisation 'zeros': known: random"),
        ({"seed": -1}, "seed -1: wanted a whole number from 0"),
        ({"channel_base": 8}, "channel_base 8: wanted a whole number from 64"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(RecipeError) as caught:
        stylegan2_random.open_plain(**options)
    assert message in str(caught.value)
