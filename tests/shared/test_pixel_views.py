"""Pixel views: torchvision's pixels, whatever the policy, the shape and the rest of the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS, SEVERAL_LAWS, VIEW_NAMES, PixelViews, view_laws
from genrep.pixel_views import apply as module
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import ViewParameters, draw

SIMCLR = PIXEL_VIEWS["simclr"]
NO_CHANGE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean, std
CONTINUOUS = [name for name, views in PIXEL_VIEWS.items() if not (views.rand_operations or views.downsample)]


def images(count: int, height: int, width: int, *, gray: bool = False) -> Tensor:
    pixels = np.random.RandomState(0).randint(0, 256, (count, height, width, 1 if gray else 3)).astype(np.uint8)
    return torch.from_numpy(np.broadcast_to(pixels, (count, height, width, 3)).copy())


def parameters(views: PixelViews, rows: int | np.ndarray, shape: tuple[int, int], size: int) -> ViewParameters:
    index = np.arange(rows) if isinstance(rows, int) else rows
    return draw(views, seed=0, epoch=0, index=index, view=index % 2, image_shape=shape, size=size)


def blurred(x: Tensor, sigma: float) -> Tensor:
    length = 2 * (x.shape[2] // 10 // 2) + 1  # SimCLR: a tenth of the side, made odd
    return F.gaussian_blur(x, [length, length], [sigma, sigma]) if length > 1 else x


def rand_operation(x: Tensor, kind: int, amount: float) -> Tensor:
    """An operation of RandAugment on a uint8 image; ``amount`` is the signed magnitude, of 1."""

    def affine(**changes: object) -> Tensor:
        return F.affine(x, **{"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **changes})

    size, slant = x.shape[2], float(np.degrees(np.arctan(0.3 * amount)))
    return (
        lambda: x,
        lambda: affine(shear=[slant, 0.0], center=[0, 0]),
        lambda: affine(shear=[0.0, slant], center=[0, 0]),
        lambda: affine(translate=[int(150 / 331 * size * amount), 0]),
        lambda: affine(translate=[0, int(150 / 331 * size * amount)]),
        lambda: F.rotate(x, 30 * amount),
        lambda: F.adjust_brightness(x, 1 + 0.9 * amount),
        lambda: F.adjust_saturation(x, 1 + 0.9 * amount),
        lambda: F.adjust_contrast(x, 1 + 0.9 * amount),
        lambda: F.adjust_sharpness(x, 1 + 0.9 * amount),
        lambda: F.posterize(x, round(8 - 4 * abs(amount))),
        lambda: F.solarize(x, 255 * (1 - abs(amount))),
        lambda: F.autocontrast(x),
        lambda: F.equalize(x),
    )[kind]()


def by_torchvision(image: Tensor, p: ViewParameters, i: int, size: int) -> Tensor:
    """One view, by torchvision's functions on the float image; RandAugment on the 8-bit image at that point."""
    x = image.permute(2, 0, 1)
    if p.detail[i]:
        shape = list(x.shape[1:])
        x = F.resize(F.resize(x, [int(p.detail[i])], antialias=True), shape, antialias=True)
    x = x.float() / 255
    x = F.resized_crop(x, *(int(side[i]) for side in (p.top, p.left, p.height, p.width)), [size, size], antialias=True)
    if p.flip[i]:
        x = F.horizontal_flip(x)
    if p.views.affine:
        x = F.affine(x, float(p.angle[i]), p.shift[i].tolist(), float(p.zoom[i]), [0.0, 0.0])
    if p.jitter[i]:
        adjust: tuple[Callable[[Tensor], Tensor], ...] = (
            lambda x: F.adjust_brightness(x, p.brightness[i]),
            lambda x: F.adjust_contrast(x, p.contrast[i]),
            lambda x: F.adjust_saturation(x, p.saturation[i]),
            lambda x: F.adjust_hue(x, p.hue[i]),
        )
        for operation in p.order[i]:
            x = adjust[operation](x)
    if p.sigma[i]:
        x = blurred(x, float(p.sigma[i]))
    if p.views.rand_operations:
        x = (x * 255).round().to(torch.uint8)
        for kind, sign in zip(p.rand[i], p.rand_sign[i]):
            x = rand_operation(x, int(kind), int(sign) * p.views.rand_magnitude / 30)
        x = x.float() / 255
    x = F.rgb_to_grayscale(x, 3) if p.grayscale[i] else x
    return F.solarize(x, 128 / 255) if p.solarize[i] else x


def errors(views: PixelViews, height: int, width: int, size: int, *, count: int = 48, gray: bool = False) -> Tensor:
    """Differences from torchvision in levels of 255."""
    batch, p = images(count, height, width, gray=gray), parameters(views, count, (height, width), size)
    ours = apply_views(batch, p, size, *NO_CHANGE)
    assert ours.shape == (count, 3, size, size)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    return (ours - torch.stack([by_torchvision(batch[i], p, i, size) for i in range(count)])).abs() * 255


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (48, 40, 28), (64, 64, 56), (20, 33, 32)])
@pytest.mark.parametrize("gray", [False, True])
def test_pixels_are_torchvisions(height: int, width: int, size: int, gray: bool) -> None:
    p = parameters(SIMCLR, 48, (height, width), size)
    assert p.jitter.any() and p.grayscale.any() and p.flip.any()
    assert errors(SIMCLR, height, width, size, gray=gray).max() < 0.01  # wanted: 2


LATER = {
    **{f"{name} {k}": law for name, laws in SEVERAL_LAWS.items() for k, law in enumerate((*laws.views, laws.local))},
    "solarized": PixelViews(solarize=1.0, blur=0.5),
}


@pytest.mark.parametrize("name", LATER)
def test_the_pixels_of_laws_that_differ_are_torchvisions(name: str) -> None:
    found = errors(LATER[name], 60, 70, 56)
    assert (
        found.flatten(1).quantile(0.999, dim=1).max() < 0.01
    )  # a value beside the threshold may fall on the other side


def test_losing_detail_is_a_smaller_image_enlarged_again() -> None:
    views = PixelViews(jitter=0.0, grayscale=0.0, downsample=0.5, downsample_to=(20, 44))
    p = parameters(views, 48, (60, 70), 56)
    assert {0, 20, 44} == set(p.detail.tolist())
    found = errors(views, 60, 70, 56)
    assert (
        found[p.detail == 0].max() < 0.01 and found.max() <= 2.01
    )  # two 8-bit interpolations round a level apart each
    plain = apply_views(
        images(48, 60, 70), parameters(replace(views, downsample=0.0), 48, (60, 70), 56), 56, *NO_CHANGE
    )
    lost = apply_views(images(48, 60, 70), p, 56, *NO_CHANGE)
    assert torch.equal(lost[p.detail == 0], plain[p.detail == 0])  # the other numbers are as they were
    assert lost[p.detail == 20].std() < lost[p.detail == 44].std() < plain.std()
    small = parameters(replace(views, downsample=1.0, downsample_to=(64,)), 8, (60, 70), 56)
    same = apply_views(images(48, 60, 70)[:8], small, 56, *NO_CHANGE)  # nothing is enlarged first
    assert torch.equal(same, plain[:8])


def test_how_often_and_how_much() -> None:
    views = PixelViews(solarize=0.2, downsample=0.3)
    p = parameters(views, 20_000, (256, 256), 32)
    assert p.solarize.mean() == pytest.approx(0.2, abs=0.01)
    assert [(p.detail == side).mean() for side in (64, 128)] == pytest.approx([0.15, 0.15], abs=0.01)
    assert abs(np.corrcoef(p.solarize, p.detail > 0)[0, 1]) < 0.02


def test_laws_by_name() -> None:
    laws = view_laws("dino", centre=None, local_scale=(0.1, 0.2))
    assert [law.blur for law in laws.views] == [1.0, 0.1] and [law.solarize for law in laws.views] == [0.0, 0.2]
    assert laws.of(2) == laws.views[0] and laws.local.scale == (0.1, 0.2) and laws.local.blur == 0.5
    simple = view_laws("simclr", scale=(0.3, 1.0))
    assert simple.views == (PixelViews(scale=(0.3, 1.0)),) and simple.local == PixelViews(scale=(0.05, 0.4))
    assert list(VIEW_NAMES)[: len(PIXEL_VIEWS)] == list(PIXEL_VIEWS) and "mocov3" in VIEW_NAMES


@pytest.mark.parametrize("policy", CONTINUOUS)
def test_the_pixels_of_every_policy_are_torchvisions(policy: str) -> None:
    assert errors(PIXEL_VIEWS[policy], 60, 70, 56).max() < 0.01


@pytest.mark.parametrize(("height", "width", "size"), [(1, 1, 1), (1, 9, 4), (2, 3, 1), (7, 5, 40), (300, 8, 6)])
def test_tiny_enlarged_and_oblong_images_too(height: int, width: int, size: int) -> None:
    assert errors(PIXEL_VIEWS["simclr-blur"], height, width, size).max() < 0.01
    assert errors(PIXEL_VIEWS["mnist"], height, width, size).max() < 0.01
    assert (
        apply_views(
            images(24, height, width), parameters(PIXEL_VIEWS["infomin"], 24, (height, width), size), size, *NO_CHANGE
        )
        .isfinite()
        .all()
    )


def test_randaugments_pixels_are_torchvisions() -> None:
    """One operation on 8-bit images: all fourteen, at every strength, to a level."""
    for magnitude in (0, 3, 10, 30):
        alone = PixelViews(random_crop=False, jitter=0.0, grayscale=0.0, rand_operations=1, rand_magnitude=magnitude)
        assert len(np.unique(parameters(alone, 96, (28, 28), 28).rand)) == 14
        assert errors(alone, 28, 28, 28, count=96).max() < 1.01


def test_infomins_pixels_are_torchvisions() -> None:
    """A value at a threshold, moved by rounding, may land on its other side: one in a thousand, at most."""
    found = errors(PIXEL_VIEWS["infomin"], 60, 60, 56, count=96)
    assert (found > 2).double().mean() < 1e-3


def test_wide_jitter_and_far_hues() -> None:
    wide = PixelViews(jitter=1.0, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    assert errors(wide, 24, 24, 24).max() < 0.01


def test_normalisation() -> None:
    batch, p = images(8, 16, 16), parameters(SIMCLR, 8, (16, 16), 16)
    plain, normal = apply_views(batch, p, 16, *NO_CHANGE), apply_views(batch, p, 16, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(normal, F.normalize(plain, list(IMAGENET_MEAN), list(IMAGENET_STD)))


def test_none_is_the_central_crop_itself() -> None:
    batch = images(4, 40, 36)
    out = apply_views(batch, parameters(PIXEL_VIEWS["none"], 4, (40, 36), 32), 32, *NO_CHANGE)
    assert torch.equal(out, (batch[:, 4:36, 2:34].permute(0, 3, 1, 2).float() / 255))


@pytest.mark.parametrize("policy", PIXEL_VIEWS)
def test_a_view_does_not_depend_on_its_batch(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit on a CPU: alone, in any order, in pieces of any size."""
    count, views, size = 30, PIXEL_VIEWS[policy], 24
    batch = images(count, 32, 28)

    def of(rows: np.ndarray) -> Tensor:
        return apply_views(batch[rows], parameters(views, rows, (32, 28), size), size, *NO_CHANGE)

    whole = of(np.arange(count))
    shuffled = np.random.RandomState(0).permutation(count)
    assert torch.equal(of(shuffled), whole[shuffled])
    assert torch.equal(torch.cat([of(np.arange(i, i + 1)) for i in range(count)]), whole)
    monkeypatch.setattr(module, "CHUNK", 4 * 3 * size * size)
    assert torch.equal(of(np.arange(count)), whole)


def test_the_images_stay_as_they_are_and_the_views_are_nobody_elses() -> None:
    batch = images(12, 24, 24)
    before, p = batch.clone(), parameters(PIXEL_VIEWS["infomin"], 12, (24, 24), 24)
    first = apply_views(batch, p, 24, *NO_CHANGE)
    kept = first.clone()
    second = apply_views(batch, p, 24, *NO_CHANGE)
    second.zero_()
    assert torch.equal(batch, before)
    assert torch.equal(first, kept)


def test_an_empty_batch_has_no_views() -> None:
    assert apply_views(images(0, 8, 8), parameters(SIMCLR, 0, (8, 8), 6), 6, *NO_CHANGE).shape == (0, 3, 6, 6)
