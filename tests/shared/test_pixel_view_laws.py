"""The parameters of pixel views: the stated laws, and numbers that belong to (seed, epoch, index, view) alone."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from genrep.pixel_views import PIXEL_VIEWS, PixelViews
from genrep.pixel_views.parameters import ViewParameters, draw, view_uniforms
from genrep.seeding import derive
from genrep.seeding import uniforms as philox_uniforms

COUNT = 20_000
PINNED_BOXES = [[51, 46, 68, 67], [44, 4, 75, 63], [7, 1, 118, 123]]
PINNED_BRIGHTNESS = [0.31401102896779776, 1.1058362552896142, 0.6618819875642656]
PINNED_OPERATIONS = [[10, 5], [2, 1], [5, 2]]


def parameters(views: PixelViews, count: int, shape: tuple[int, int], size: int) -> ViewParameters:
    index = np.arange(count)
    return draw(views, seed=0, epoch=0, index=index, view=index % 2, image_shape=shape, size=size)


def near(found: float, wanted: float, spread: float, count: int = COUNT) -> None:
    assert abs(found - wanted) < 4 * spread / count**0.5, (found, wanted)


def uniform(values: np.ndarray, low: float, high: float) -> None:
    """In the interval, up to its ends, with the right mean."""
    margin = (high - low) / 500
    assert low <= values.min() < low + margin and high - margin < values.max() <= high
    near(values.mean(), (low + high) / 2, (high - low) / 12**0.5, values.size)


def test_the_law_of_simclr() -> None:
    p = parameters(PIXEL_VIEWS["simclr"], COUNT, (100, 100), 32)
    for flags, probability in ((p.flip, 0.5), (p.jitter, 0.8), (p.grayscale, 0.2)):
        near(flags.mean(), probability, 0.5)
    for factors in (p.brightness, p.contrast, p.saturation):
        uniform(factors, 0.6, 1.4)
    uniform(p.hue, -0.1, 0.1)
    for place in range(4):
        for operation in range(4):
            near((p.order[:, place] == operation).mean(), 0.25, 0.5)
    near(np.corrcoef(p.brightness, p.contrast)[0, 1], 0, 1)
    near(np.corrcoef(p.brightness[::2], p.brightness[1::2])[0, 1], 0, 2**0.5)  # the two views
    assert not p.sigma.any() and p.rand.shape == (COUNT, 0)


def test_the_laws_of_blur_and_randaugment() -> None:
    p = parameters(PIXEL_VIEWS["infomin"], COUNT, (100, 100), 32)
    near((p.sigma > 0).mean(), 0.5, 0.5)
    uniform(p.sigma[p.sigma > 0], 0.1, 2.0)
    uniform(p.brightness, 0.2, 1.8)
    uniform(p.hue, -0.2, 0.2)
    for place in range(2):
        for operation in range(14):
            near((p.rand[:, place] == operation).mean(), 1 / 14, 0.26)
        near((p.rand_sign[:, place] == 1).mean(), 0.5, 0.5)
    near(np.corrcoef(p.rand.T)[0, 1], 0, 1)
    near(np.corrcoef(p.rand[:, 0], p.rand_sign[:, 0])[0, 1], 0, 1)


def test_the_law_of_mnist() -> None:
    p = parameters(PIXEL_VIEWS["mnist"], COUNT, (28, 28), 28)
    uniform(p.angle, -10, 10)
    uniform(p.zoom, 0.9, 1.1)
    for shift in p.shift.T:  # a uniform number in ±2.8, rounded
        assert set(np.unique(shift)) == set(range(-3, 4))
        near((shift == 0).mean(), 1 / 5.6, 0.4)
        near((shift == 3).mean(), 0.3 / 5.6, 0.25)
    assert not (p.flip.any() or p.jitter.any() or p.grayscale.any() or p.sigma.any())
    assert (p.height == 28).all()


@pytest.mark.parametrize("shape", [(40, 90), (64, 64), (90, 20)])
def test_crops_are_torchvisions_in_law(shape: tuple[int, int]) -> None:
    """Compared with torchvision's own sampler, also where its ten tries and its fallback matter."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    count = 3000
    ours = parameters(PIXEL_VIEWS["simclr"], count, shape, 32)
    torch.manual_seed(0)
    blank = torch.zeros(3, *shape)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    for k, name in enumerate(("top", "left", "height", "width")):
        mine, other = getattr(ours, name).astype(float), theirs[:, k].astype(float)
        error = np.hypot(mine.std(), other.std()) / count**0.5
        assert abs(mine.mean() - other.mean()) <= 4 * error, name
        assert abs(mine.std() - other.std()) <= 4 * error, name
    assert (ours.top + ours.height <= shape[0]).all() and (ours.left + ours.width <= shape[1]).all()
    assert ours.top.min() >= 0 and ours.left.min() >= 0 and ours.height.min() > 0 and ours.width.min() > 0


@pytest.mark.parametrize("policy", PIXEL_VIEWS)
def test_parameters_do_not_depend_on_the_batch(policy: str) -> None:
    def of(rows: np.ndarray) -> ViewParameters:
        return draw(PIXEL_VIEWS[policy], seed=4, epoch=2, index=rows, view=rows % 3, image_shape=(30, 70), size=32)

    whole, rows = of(np.arange(400)), np.array([331, 5, 118])
    some, taken = of(rows), whole.take(rows)
    for field in fields(ViewParameters):
        assert np.array_equal(getattr(some, field.name), getattr(taken, field.name)), field.name


def test_seed_epoch_index_and_view_all_matter() -> None:
    def box(**changes: int) -> list[int]:
        keys = {"seed": 0, "epoch": 0, "index": 7, "view": 0, **changes}
        index, view = np.array([keys.pop("index")]), np.array([keys.pop("view")])
        p = draw(
            PixelViews(),
            seed=keys["seed"],
            epoch=keys["epoch"],
            index=index,
            view=view,
            image_shape=(224, 224),
            size=32,
        )
        return [int(p.top[0]), int(p.left[0]), int(p.height[0]), int(p.width[0])]

    boxes = [box(), box(seed=1), box(epoch=1), box(index=8), box(view=1), box(index=7 + 2**32)]
    assert len({tuple(values) for values in boxes}) == 6
    assert box() == boxes[0]


def test_the_parameters_are_pinned() -> None:
    """What a run has seen must not change between versions."""
    index = np.array([0, 1, 2**40])
    p = draw(
        PIXEL_VIEWS["infomin"], seed=0, epoch=0, index=index, view=np.array([0, 1, 0]), image_shape=(128, 128), size=112
    )
    assert np.stack([p.top, p.left, p.height, p.width], axis=1).tolist() == PINNED_BOXES
    assert p.brightness.tolist() == pytest.approx(PINNED_BRIGHTNESS, abs=1e-12)
    assert p.rand.tolist() == PINNED_OPERATIONS


def test_a_views_numbers_are_philoxs() -> None:
    key, index, view = derive("pixel-views", 3, 1), np.array([0, 5, 2**40]), np.array([0, 1, 7])
    found = view_uniforms(key, index, view, (0, 3, 9))
    assert found.shape == (3, 4, 3)
    for i in range(3):
        wanted = philox_uniforms(key, index[i : i + 1], int(view[i]), 40).reshape(10, 4)
        assert np.array_equal(found[:, :, i], wanted[[0, 3, 9]])
