"""Functions that round alike in any batch."""

import pytest
import torch

from genrep.generate.generators.procedural.arithmetic import exp, fold, natural_colours, uniform


def test_normal_numbers_become_uniform_ones():
    z = torch.linspace(-7, 7, 20_001)
    assert float((uniform(z) - torch.special.ndtr(z.double())).abs().max()) < 2e-6
    assert float(uniform(z).min()) >= 0
    assert float(uniform(z).max()) <= 1
    drawn = uniform(torch.randn(200_000, generator=torch.Generator().manual_seed(0)))
    counts = torch.histc(drawn, 20, 0, 1)
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 45  # chi squared of 19 degrees: a chance of 1 in 1,000


def test_the_exponential_function_and_its_gradient():
    x = torch.linspace(-80, 80, 20_001, requires_grad=True)
    y = exp(x)
    truth = x.detach().double().exp()
    assert float(((y.detach() - truth) / truth).abs().max()) < 1e-5
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert float(((gradient - truth) / truth).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100])
def test_sums_are_those_of_the_row_alone(size):
    x = torch.randn(5, size, generator=torch.Generator().manual_seed(size))
    torch.testing.assert_close(fold(x), x.sum(dim=1), rtol=1e-5, atol=1e-5)
    assert torch.equal(fold(x)[3:4], fold(x[3:4]))


def test_channels_get_the_means_and_deviations_that_the_numbers_say():
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean(dim=(2, 3), keepdim=True)) / noise.std(dim=(2, 3), keepdim=True)
    z = torch.zeros(4, 6)
    z[1, 0], z[2, 3], z[3, 5] = 2.0, 1.0, -9.0
    images = natural_colours(noise, z) / 2 + 0.5  # in [0, 1]
    assert images.mean(dim=(2, 3))[0].tolist() == pytest.approx([0.483, 0.455, 0.401], abs=1e-5)
    assert float(images[1, 0].mean()) == pytest.approx(0.483 + 0.30, abs=1e-5)
    assert float(images[2, 0].std()) == pytest.approx(0.28, abs=1e-5)
    assert float(images[3, 2].std()) == pytest.approx(0.05, abs=1e-5)  # the least, where the law gives less or nothing
