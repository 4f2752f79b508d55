"""Sliding windows: every pixel is covered, overlaps are averaged, and nothing depends on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genrep.evaluate.segmentation import windows
from genrep.evaluate.segmentation.windows import classified, places, predictions


@pytest.mark.parametrize(
    ("height", "width", "crop", "stride"), [(32, 32, 32, 24), (33, 75, 32, 24), (100, 64, 32, 32), (512, 683, 512, 341)]
)
def test_every_pixel_is_in_a_window(height: int, width: int, crop: int, stride: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for top, left in places(height, width, crop, stride):
        assert 0 <= top <= height - crop and 0 <= left <= width - crop
        covered[top : top + crop, left : left + crop] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_overlaps_are_averaged(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    height, width, crop, classes = 12, 19, 8, 5
    where = places(height, width, crop, 5)
    logits = torch.randn(len(where), classes, 2, 2, generator=generator)
    monkeypatch.setattr(windows, "MOST_SCORES", at_once * len(where) * crop * crop)
    found = classified(logits, where, crop, (height, width), (30, 41))

    large = F.interpolate(logits, (crop, crop), mode="bilinear", align_corners=False)
    mean = torch.zeros(classes, height, width)
    for y in range(height):
        for x in range(width):
            over = [n for n, (top, left) in enumerate(where) if top <= y < top + crop and left <= x < left + crop]
            mean[:, y, x] = sum(large[n, :, y - where[n][0], x - where[n][1]] for n in over) / len(over)
    wanted = F.interpolate(mean[None], (30, 41), mode="bilinear", align_corners=False)[0].argmax(dim=0)
    assert (found == wanted.numpy()).mean() > 0.999  # rounding decides between equals
    assert len({*found.ravel().tolist()}) == classes


def test_of_equal_scores_the_first_class_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST_SCORES", 1)
    logits = torch.zeros(1, 4, 2, 2)
    assert (classified(logits, [(0, 0)], 4, (4, 4), (4, 4)) == 0).all()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_does_not_matter(batch_size: int) -> None:
    random = np.random.RandomState(0)
    images = [random.randint(0, 256, (16, 16 + 9 * k, 3)).astype(np.uint8) for k in range(4)]
    masks = [np.full((5 + k, 7), k, dtype=np.uint8) for k in range(4)]
    sizes = []

    def score(pixels: np.ndarray) -> torch.Tensor:
        sizes.append(len(pixels))
        means = torch.from_numpy(pixels).float().unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(-1, -2))
        return means.permute(0, 3, 1, 2)

    found = list(predictions(iter(zip(images, masks)), score, crop=16, stride=8, batch_size=batch_size))
    assert [int(mask[0, 0]) for mask, _ in found] == [0, 1, 2, 3]
    assert max(sizes) <= batch_size and sum(sizes) == sum(len(places(16, 16 + 9 * k, 16, 8)) for k in range(4))
    for (mask, predicted), image in zip(found, images):
        where = places(*image.shape[:2], 16, 8)
        logits = torch.cat([score(image[None, t : t + 16, x : x + 16]) for t, x in where])
        assert (predicted == classified(logits, where, 16, image.shape[:2], mask.shape)).all()
