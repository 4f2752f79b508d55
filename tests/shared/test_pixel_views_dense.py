"""Pixel views for compilers, gradients and GPUs: the same pixels as the eager ones on a CPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS, PixelViews, dense
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.dense import differentiable_views
from genrep.pixel_views.parameters import ViewParameters, draw

COUNT = 32
NO_CHANGE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean, std
CONTINUOUS = [name for name, views in PIXEL_VIEWS.items() if not (views.rand_operations or views.downsample)]
EVERYTHING = PixelViews(degrees=20.0, translate=0.1, zoom=(0.8, 1.2), blur=0.5, rand_operations=1)


def stored(height: int, width: int, count: int = COUNT) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, (count, height, width, 3)).astype(np.uint8))


def parameters(views: PixelViews, shape: tuple[int, int], size: int, count: int = COUNT) -> ViewParameters:
    index = np.arange(count)
    return draw(views, seed=0, epoch=0, index=index, view=index % 2, image_shape=shape, size=size)


def agree(found: Tensor, wanted: Tensor, views: PixelViews) -> None:
    """Up to rounding; 8-bit operations may turn rounding into a step, once in a thousand values."""
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    different = (found.cpu() - wanted).abs() > 2e-5
    assert different.double().mean() < (1e-3 if views.rand_operations else 1e-9)


@pytest.mark.parametrize("policy", PIXEL_VIEWS)
@pytest.mark.parametrize(("height", "width", "size"), [(40, 36, 32), (20, 30, 40), (1, 1, 1), (3, 2, 2)])
def test_views_of_float_images_are_those_of_stored_ones(policy: str, height: int, width: int, size: int) -> None:
    views, batch = PIXEL_VIEWS[policy], stored(height, width)
    p = parameters(views, (height, width), size)
    found = differentiable_views(batch.permute(0, 3, 1, 2) / 255, p, size, *NO_CHANGE)
    agree(found, apply_views(batch, p, size, *NO_CHANGE), views)


@pytest.mark.parametrize("policy", CONTINUOUS)
def test_the_gradient_is_that_of_finite_differences(policy: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, 3, 24, 24, generator=generator) * 0.8 + 0.1
    weights, direction = (torch.randn(COUNT, 3, 24, 24, generator=generator) for _ in range(2))
    p = parameters(PIXEL_VIEWS[policy], (24, 24), 24)

    def function(x: Tensor) -> Tensor:
        return (differentiable_views(x, p, 24, IMAGENET_MEAN, IMAGENET_STD) * weights).double().sum(dim=(1, 2, 3))

    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    step = 1e-4
    slopes = (function(images + step * direction) - function(images - step * direction)) / (2 * step)
    found = (gradient * direction).double().sum(dim=(1, 2, 3))
    # A pixel near a kink (a clamp, equal channels) makes a difference; the bulk agrees.
    assert torch.corrcoef(torch.stack([found, slopes]))[0, 1] > 0.995
    assert torch.equal(leaf.detach(), images)


def test_gray_images_have_a_finite_gradient() -> None:
    values = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    leaf = values.expand(-1, 3, -1, -1).clone().requires_grad_()
    differentiable_views(leaf, parameters(PIXEL_VIEWS["simclr"], (8, 8), 8), 8, *NO_CHANGE).square().sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0


@pytest.mark.slow
def test_compiled_views_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one graph, with every operation there is; the compiler proper is left to machines with a GPU."""
    compiler = torch.compile(dense.of_stored, fullgraph=True, backend="aot_eager")
    monkeypatch.setattr(dense, "_compiler", lambda: compiler)
    for seed in (0, 1):  # the second batch uses the first one's graph
        batch, index = stored(28, 30), np.arange(COUNT) + 100 * seed
        p = draw(EVERYTHING, seed=seed, epoch=0, index=index, view=index % 2, image_shape=(28, 30), size=24)
        with torch._dynamo.config.patch(error_on_recompile=bool(seed)):
            found = apply_views(batch, p, 24, IMAGENET_MEAN, IMAGENET_STD, compiled=True)
        agree(found, apply_views(batch, p, 24, IMAGENET_MEAN, IMAGENET_STD), EVERYTHING)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", PIXEL_VIEWS)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_makes_the_same_pixels(policy: str, compiled: bool) -> None:
    views, batch, count = PIXEL_VIEWS[policy], stored(72, 64, 128), 128
    p = parameters(views, (72, 64), 56, count)
    make = partial(apply_views, parameters=p, size=56, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    agree(make(batch.cuda(), compiled=compiled), make(batch), views)
