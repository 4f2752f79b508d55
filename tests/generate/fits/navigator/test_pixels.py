"""Differentiable pixel views: the same pixels as the trainer's, and the right gradient."""

import numpy as np
import pytest
import torch

from genrep.generate.fits.config import POLICIES
from genrep.generate.fits.navigator_scope import PixelPolicy, differentiable_views
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw

COUNT = 48


def batch(height, width):
    pixels = np.random.RandomState(0).randint(0, 256, (COUNT, height, width, 3)).astype(np.uint8)
    return torch.from_numpy(pixels)


def parameters(policy, shape, size):
    index = np.arange(COUNT)
    return draw(POLICIES[policy], seed=0, epoch=0, index=index, view=index % 2, image_shape=shape, size=size)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("height", "width", "size"), [(16, 16, 16), (20, 24, 12), (12, 12, 16)])
def test_the_views_are_those_of_stored_images(policy, height, width, size):
    stored = batch(height, width)
    p = parameters(policy, (height, width), size)
    wanted = apply_views(stored, p, size, IMAGENET_MEAN, IMAGENET_STD)
    found = differentiable_views(stored.permute(0, 3, 1, 2) / 255, p, size, IMAGENET_MEAN, IMAGENET_STD)
    assert found.shape == (COUNT, 3, size, size)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - wanted).abs().max() < 2e-4  # of values up to 2.6; hues of nearly gray pixels amplify rounding


@pytest.mark.parametrize("policy", POLICIES)
def test_the_gradient_is_that_of_finite_differences(policy):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, 3, 10, 10, generator=generator) * 0.8 + 0.1
    weights = torch.randn(COUNT, 3, 10, 10, generator=generator)
    direction = torch.randn(COUNT, 3, 10, 10, generator=generator)
    p = parameters(policy, (10, 10), 10)

    def function(x):
        return (differentiable_views(x, p, 10, IMAGENET_MEAN, IMAGENET_STD) * weights).double().sum(dim=(1, 2, 3))

    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    step = 1e-4
    slopes = (function(images + step * direction) - function(images - step * direction)) / (2 * step)
    found = (gradient * direction).double().sum(dim=(1, 2, 3))
    # An image with a pixel near a kink (a clamp, equal channels) may differ; nearly all agree.
    assert ((found - slopes).abs() < 0.02 * slopes.abs() + 0.3).double().mean() > 0.9
    assert torch.corrcoef(torch.stack([found, slopes]))[0, 1] > 0.995
    assert torch.equal(leaf.detach(), images)


def test_gray_images_have_a_finite_gradient():
    gray = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    leaf = gray.clone().requires_grad_()
    p = parameters("simclr", (8, 8), 8)
    differentiable_views(leaf, p, 8, IMAGENET_MEAN, IMAGENET_STD).square().sum().backward()
    assert leaf.grad.isfinite().all()


def test_a_view_belongs_to_its_anchor_and_place_not_to_its_batch():
    policy = PixelPolicy(views=POLICIES["simclr"], size=12, seed=3)
    images = batch(12, 12).permute(0, 3, 1, 2) / 255
    indices = np.arange(COUNT) + 1000
    whole = policy(images, images, indices)
    assert not torch.allclose(whole[:COUNT], whole[COUNT:])
    part = policy(images[10:15], images[10:15], indices[10:15])
    assert torch.allclose(part, torch.cat([whole[10:15], whole[COUNT + 10 : COUNT + 15]]), atol=1e-5)
