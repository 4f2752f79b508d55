"""Training crops: functions of (seed, epoch, index) in which image and mask go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrep.evaluate.segmentation import views as view_module
from genrep.evaluate.segmentation.config import PRESETS
from genrep.evaluate.segmentation.layout import read_splits
from genrep.evaluate.segmentation.views import sized, training_batches, training_view

FILL = (1, 2, 3)
PLAIN = replace(PRESETS["small"], size=32, crop=32, batch_size=4, scales=(0.5, 2.0), distort=False)


def told(side: tuple[int, int] = (40, 56)) -> tuple[Image.Image, np.ndarray]:
    """An image whose red says its mask's class."""
    mask = (np.arange(side[0] * side[1]).reshape(side) // (8 * side[1]) % 5).astype(np.uint8)
    pixels = np.repeat(mask[:, :, None] * 50, 3, axis=2)
    return Image.fromarray(pixels), mask


def test_image_and_mask_go_together() -> None:
    image, mask = told()
    padded = 0
    for index in range(20):
        pixels, labels = training_view(image, mask, PLAIN, FILL, {"seed": 0, "epoch": 0, "index": index})
        assert pixels.shape == (32, 32, 3) and labels.shape == (32, 32)
        void = labels == 255
        assert (pixels[void] == FILL).all()
        red = np.round(pixels[..., 0] / 50)
        assert (red == labels)[~void].mean() > 0.6  # but where classes meet
        padded += bool(void.any())
    assert 0 < padded < 20


def test_a_view_is_a_function_of_seed_epoch_and_index() -> None:
    image, mask = told()
    key = {"seed": 0, "epoch": 0, "index": 0}
    coloured = replace(PLAIN, distort=True)
    first = training_view(image, mask, coloured, FILL, key)
    again = training_view(image, mask, coloured, FILL, key)
    assert all((a == b).all() for a, b in zip(first, again))
    for name in key:
        other = training_view(image, mask, coloured, FILL, {**key, name: 1})
        assert any((a != b).any() for a, b in zip(first, other))


def test_colours_change_the_image_and_not_the_mask() -> None:
    image, mask = told()
    for index in range(8):
        key = {"seed": 1, "epoch": 0, "index": index}
        plain, labels = training_view(image, mask, PLAIN, FILL, key)
        coloured, same = training_view(image, mask, replace(PLAIN, distort=True), FILL, key)
        assert (labels == same).all()
        assert (coloured[labels == 255] == FILL).all()
    assert (plain != coloured).any()


def test_a_crop_with_too_much_of_a_class_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((32, 320), dtype=np.uint8) + (np.arange(320) // 40 % 2).astype(np.uint8)
    image = Image.fromarray(np.zeros((32, 320, 3), dtype=np.uint8))
    law = replace(PLAIN, scales=(1.0, 1.0))

    def good() -> int:
        views = (training_view(image, mask, law, FILL, {"seed": 0, "epoch": 0, "index": i}) for i in range(40))
        return sum(bool(0.25 < (labels == 1).mean() < 0.75) for _, labels in views)

    assert good() == 40
    monkeypatch.setattr(view_module, "TRIES", 1)
    assert 5 < good() < 30


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (300, 300), (1000, 51)])
def test_sizes_are_rounded_as_the_authors_do(width: int, height: int) -> None:
    wide, high = sized(width, height, 512)
    assert min(wide, high) == 512 and max(wide, high) == int(512 * max(width, height) / min(width, height) + 0.5)


def test_batches_do_not_depend_on_threads_or_on_where_they_begin(shapes: Path) -> None:
    train = read_splits(shapes, (None, None), 3, None)[0]
    all_of_them = list(training_batches(train, PLAIN, FILL, 0, range(6), workers=1))
    rest = list(training_batches(train, PLAIN, FILL, 0, range(4, 6), workers=3))
    for (pixels, masks), (same, alike) in zip(all_of_them[4:], rest):
        assert (pixels == same).all() and (masks == alike).all()
    assert any((a[0] != b[0]).any() for a, b in zip(all_of_them[:3], all_of_them[3:]))  # the second epoch is another
