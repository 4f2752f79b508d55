"""Order, sizes and flips are functions of (seed, step); boxes move with the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genrep.errors import DataError
from genrep.evaluate.detection.config import PRESETS, DetectionPreset
from genrep.evaluate.detection.data import chosen, images_for_test, scaled, training_batches, training_sample
from genrep.evaluate.voc.layout import read_split


def test_every_image_once_before_any_comes_again() -> None:
    seen = [index for step in range(7) for index in chosen(10, 3, step, 4)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]
    assert seen != [index for step in range(7) for index in chosen(10, 4, step, 4)]


@pytest.mark.parametrize(
    ("size", "wanted"), [((500, 375), (1067, 800)), ((375, 500), (800, 1067)), ((500, 200), (1333, 533))]
)
def test_the_papers_test_size(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    preset = PRESETS["genrep-24k"]
    assert scaled(*size, preset.test_size, preset.test_max_size) == wanted


def test_boxes_move_with_the_pixels(rectangles: Path, tiny: DetectionPreset) -> None:
    images = read_split([rectangles], "trainval").images
    shapes, sides = set(), set()
    for place in range(12):
        pixels, target = training_sample(images[place % 8], tiny, 0, place)
        shapes.add(tuple(pixels.shape))
        for box, label in zip(target["boxes"], target["labels"].tolist()):
            x0, y0, x1, y1 = box.round().int().tolist()
            inside = pixels[:, y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].float().mean(dim=(1, 2))
            colour = {1: (30, 40, 230), 2: (230, 40, 30)}[label]
            assert np.abs(inside.numpy() - colour).max() < 25
            sides.add((label, x0 < pixels.shape[2] / 2))
    assert shapes == {(3, 64, 85), (3, 72, 96)}
    assert len(sides) == 4  # flipped and not


def test_batches_depend_neither_on_workers_nor_on_where_one_begins(rectangles: Path, tiny: DetectionPreset) -> None:
    images = read_split([rectangles], "trainval").images
    whole = list(training_batches(images, tiny, 0, range(5), workers=3))
    later = list(training_batches(images, tiny, 0, range(3, 5)))
    halves = [list(training_batches(images, tiny, 0, range(5), rank=rank, world_size=2)) for rank in range(2)]
    for one, two in zip(whole[3:], later, strict=True):
        assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))
    for step, batch in enumerate(whole):
        together = [sample for half in halves for sample in half[step]]
        assert all(torch.equal(a[0], b[0]) for a, b in zip(batch, together, strict=True))


def test_a_damaged_image_arrives_as_its_own_error(rectangles: Path, tiny: DetectionPreset, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(rectangles, root)
    (root / "JPEGImages/test02.jpg").write_bytes(b"nothing")
    found = images_for_test(read_split([root], "test").images, tiny, workers=2)
    assert next(found).shape == (3, 72, 96)
    next(found)
    with pytest.raises(DataError, match=r"test02\.jpg: not a readable image"):
        next(found)
