"""Figures of detections: perfect ones, none, and COCO's against a plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genrep.errors import DataError
from genrep.evaluate.detection.config import DetectionPreset
from genrep.evaluate.detection.testing import coco_ap, detect, measure, truth
from genrep.evaluate.voc.average_precision import Objects, iou
from genrep.evaluate.voc.layout import VocSplit, read_split


def perfect(split: VocSplit) -> list[Objects]:
    return [
        Objects(boxes=image.boxes, labels=image.labels, scores=np.full(len(image.labels), 0.9, dtype=np.float32))
        for image in split.images
    ]


def test_perfect_detections_are_100_in_every_figure(rectangles: Path) -> None:
    split = read_split([rectangles], "test")
    assert any(image.difficult.any() for image in split.images)
    values = measure(split, perfect(split))
    assert values["AP50_per_class"] == {"blue": 100.0, "red": 100.0}
    for name in ("voc07", "voc2010", "coco"):
        assert values[name] == {"AP": 100.0, "AP50": 100.0, "AP75": 100.0}


def test_no_detections_are_0_in_every_figure(rectangles: Path) -> None:
    split = read_split([rectangles], "test")
    none = Objects(boxes=np.empty((0, 4), np.float32), labels=np.empty(0, np.int64), scores=np.empty(0, np.float32))
    values = measure(split, [none] * len(split))
    for name in ("voc07", "voc2010", "coco"):
        assert values[name] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}


def test_a_class_of_difficult_objects_only_has_no_ap(rectangles: Path) -> None:
    split = read_split([rectangles], "test", ["red"])
    hard = [image for image in split.images if image.difficult.all()]
    only = VocSplit(name="hard", images=tuple(hard), classes=split.classes, dropped={})
    with pytest.raises(DataError, match="split hard: class 'red' has no object that is not difficult"):
        measure(only, perfect(only))


def test_cocos_ap_is_the_mean_of_101_points(rectangles: Path) -> None:
    """Boxes far apart, each with some shifted detections: one class, every match plain."""
    split = read_split([rectangles], "test", ["blue"])
    random = np.random.RandomState(0)
    found = []
    for image in split.images:
        boxes = np.repeat(image.boxes, 6, axis=0) + random.randint(-6, 7, (6, 4)).astype(np.float32)
        found.append(Objects(boxes=boxes, labels=np.zeros(6, np.int64), scores=random.rand(6).astype(np.float32)))
    ours = coco_ap(truth(split), found, split)
    for name, overlap in (("AP50", 0.5), ("AP75", 0.75)):
        assert ours[name] == pytest.approx(100 * loop(split, found, overlap), abs=1e-3)
    assert 0 < ours["AP75"] < ours["AP50"] <= 100


def loop(split: VocSplit, found: list[Objects], overlap: float) -> float:
    ranked = sorted(((float(s), i, k) for i, o in enumerate(found) for k, s in enumerate(o.scores)), reverse=True)
    used, hits = set(), []
    for _, i, k in ranked:
        good = iou(found[i].boxes[k : k + 1], split.images[i].boxes)[0, 0] >= overlap and i not in used
        hits.append(good)
        if good:
            used.add(i)
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    recall = [sum(hits[: n + 1]) / len(split) for n in range(len(hits))]
    points = [max([p for p, r in zip(precision, recall) if r >= t / 100], default=0.0) for t in range(101)]
    return sum(points) / 101


def test_detections_come_back_in_the_images_own_pixels(rectangles: Path, tiny: DetectionPreset) -> None:
    class Half(torch.nn.Module):
        """Says that the left half of what it is given is of class 2."""

        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            (image,) = images
            assert float(image.max()) <= 1
            box = torch.tensor([[0.0, 0, image.shape[2] / 2, image.shape[1]]])
            return [{"boxes": box, "labels": torch.tensor([2]), "scores": torch.tensor([0.5])}]

    split = read_split([rectangles], "test")
    from dataclasses import replace

    for found in detect(Half(), split.images, replace(tiny, test_size=50), torch.device("cpu")):
        np.testing.assert_allclose(found.boxes, [[0, 0, 48, 72]], rtol=1e-6)
        assert found.labels.tolist() == [1]
