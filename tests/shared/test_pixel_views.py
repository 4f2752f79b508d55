"""Pixel views: torchvision's pixels, parameters of the stated laws, and independence of the batch."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS, PixelViews
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import ViewParameters, draw
from genrep.pixel_views.streams import uniforms

SIMCLR = PIXEL_VIEWS["simclr"]
NO_CHANGE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean, std


def images(count: int, height: int, width: int, *, gray: bool = False) -> Tensor:
    pixels = np.random.RandomState(0).randint(0, 256, (count, height, width, 1 if gray else 3)).astype(np.uint8)
    return torch.from_numpy(np.broadcast_to(pixels, (count, height, width, 3)).copy())


def parameters(views: PixelViews, count: int, shape: tuple[int, int], size: int, **keys: int) -> ViewParameters:
    keys = {"seed": 0, "epoch": 0, **keys}
    index = np.arange(count)
    return draw(views, **keys, index=index, view=index % 2, image_shape=shape, size=size)


def by_torchvision(image: Tensor, p: ViewParameters, i: int, size: int) -> Tensor:
    """One view, by torchvision's functions on the float image."""
    x = image.permute(2, 0, 1).float() / 255
    box = int(p.top[i]), int(p.left[i]), int(p.height[i]), int(p.width[i])
    x = F.resized_crop(x, *box, [size, size], antialias=True)
    if p.flip[i]:
        x = F.horizontal_flip(x)
    if p.jitter[i]:
        adjust = (
            lambda x: F.adjust_brightness(x, p.brightness[i]),
            lambda x: F.adjust_contrast(x, p.contrast[i]),
            lambda x: F.adjust_saturation(x, p.saturation[i]),
            lambda x: F.adjust_hue(x, p.hue[i]),
        )
        for operation in p.order[i]:
            x = adjust[operation](x)
    return F.rgb_to_grayscale(x, 3) if p.grayscale[i] else x


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (48, 40, 28), (64, 64, 56), (20, 33, 32)])
@pytest.mark.parametrize("gray", [False, True])
def test_pixels_are_torchvisions(height: int, width: int, size: int, gray: bool) -> None:
    count = 48
    batch = images(count, height, width, gray=gray)
    p = parameters(SIMCLR, count, (height, width), size)
    ours = apply_views(batch, p, size, *NO_CHANGE)
    theirs = torch.stack([by_torchvision(batch[i], p, i, size) for i in range(count)])
    assert p.jitter.any() and p.grayscale.any() and p.flip.any()
    assert (ours - theirs).abs().max() * 255 < 0.01  # wanted: 2
    assert ours.shape == (count, 3, size, size)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_normalisation() -> None:
    batch, p = images(8, 16, 16), parameters(SIMCLR, 8, (16, 16), 16)
    plain, normal = apply_views(batch, p, 16, *NO_CHANGE), apply_views(batch, p, 16, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(normal, F.normalize(plain, list(IMAGENET_MEAN), list(IMAGENET_STD)))


def test_none_is_the_central_crop_itself() -> None:
    batch = images(4, 40, 36)
    out = apply_views(batch, parameters(PIXEL_VIEWS["none"], 4, (40, 36), 32), 32, *NO_CHANGE)
    assert torch.equal(out, (batch[:, 4:36, 2:34].permute(0, 3, 1, 2).float() / 255))


def test_a_view_does_not_depend_on_its_batch() -> None:
    count = 40
    batch, p = images(count, 32, 32), parameters(SIMCLR, count, (32, 32), 32)
    whole = apply_views(batch, p, 32, *NO_CHANGE)
    rows = np.array([31, 5, 18])
    some = draw(SIMCLR, seed=0, epoch=0, index=rows, view=rows % 2, image_shape=(32, 32), size=32)
    for field in fields(ViewParameters):
        assert np.array_equal(getattr(some, field.name), getattr(p, field.name)[rows]), field.name
    part = apply_views(batch[rows], some, 32, *NO_CHANGE)
    torch.testing.assert_close(part, whole[rows], atol=1e-6, rtol=0)


def test_seed_epoch_index_and_view_all_matter() -> None:
    def box(**changes: int) -> list[int]:
        keys = {"seed": 0, "epoch": 0, "index": 7, "view": 0, **changes}
        index, view = np.array([keys.pop("index")]), np.array([keys.pop("view")])
        p = draw(SIMCLR, **keys, index=index, view=view, image_shape=(224, 224), size=32)
        return [int(p.top[0]), int(p.left[0]), int(p.height[0]), int(p.width[0])]

    boxes = [box(), box(seed=1), box(epoch=1), box(index=8), box(view=1)]
    assert len({tuple(values) for values in boxes}) == 5
    assert box() == boxes[0]


def splitmix64(state: int) -> int:
    """The output function in Python's integers."""
    word = 2**64 - 1
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & word
    state = (state ^ state >> 27) * 0x94D049BB133111EB & word
    return state ^ state >> 31


def test_the_stream_is_pinned() -> None:
    golden, word = 0x9E3779B97F4A7C15, 2**64 - 1
    found = uniforms(5, np.array([0, 1, 2**40]), np.array([0, 63]))
    for row, index in zip(found, (0, 1, 2**40)):
        state = splitmix64(5 ^ splitmix64(index + golden & word))
        for u, counter in zip(row, (0, 63)):
            assert u == (splitmix64(state + (counter + 1) * golden & word) >> 11) / 2**53
    assert uniforms(0, np.array([0]), np.array([0, 1])).tolist() == [[0.33805245419550545, 0.2691302712263999]]


def test_laws_of_the_parameters() -> None:
    count = 20_000
    p = parameters(SIMCLR, count, (100, 100), 32)

    def near(found: float, wanted: float, spread: float) -> None:
        assert abs(found - wanted) < 4 * spread / count**0.5, (found, wanted)

    for flags, probability in ((p.flip, 0.5), (p.jitter, 0.8), (p.grayscale, 0.2)):
        near(flags.mean(), probability, 0.5)
    for factors in (p.brightness, p.contrast, p.saturation):
        near(factors.mean(), 1.0, 0.8 / 12**0.5)
        assert 0.6 <= factors.min() < 0.601 and 1.399 < factors.max() <= 1.4
    near(p.hue.mean(), 0.0, 0.2 / 12**0.5)
    assert np.abs(p.hue).max() <= 0.1
    for place in range(4):
        for operation in range(4):
            near((p.order[:, place] == operation).mean(), 0.25, 0.5)
    near(np.corrcoef(p.brightness, p.contrast)[0, 1], 0, 1)
    near(np.corrcoef(p.brightness[::2], p.brightness[1::2])[0, 1], 0, 2**0.5)  # the two views


def test_crops_are_torchvisions_in_law() -> None:
    """Compared with torchvision's own sampler on an oblong image, where its ten tries and its fallback matter."""
    from torchvision.transforms import RandomResizedCrop

    shape, count = (40, 90), 3000
    ours = parameters(SIMCLR, count, shape, 32)
    torch.manual_seed(0)
    blank = torch.zeros(3, *shape)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    for k, name in enumerate(("top", "left", "height", "width")):
        mine, other = getattr(ours, name).astype(float), theirs[:, k].astype(float)
        error = np.hypot(mine.std(), other.std()) / count**0.5
        assert abs(mine.mean() - other.mean()) < 4 * error, name
        assert abs(mine.std() - other.std()) < 4 * error, name
    assert (ours.top + ours.height <= shape[0]).all() and (ours.left + ours.width <= shape[1]).all()
