"""A detector's detections on a split, and what VOC and COCO say to them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from genrep.errors import DataError
from genrep.evaluate.voc.average_precision import Objects, detection_ap
from genrep.evaluate.voc.layout import VocImage, VocSplit
from genrep.extras import install
from genrep.progress import Progress

from .config import DetectionPreset
from .data import images_for_test

UNCOUNTED = "no object that is not difficult"
OVERLAPS = tuple(0.5 + 0.05 * k for k in range(10))


def check_installed() -> None:
    """Raises DataError if pycocotools is not there."""
    if importlib.util.find_spec("pycocotools") is None:
        raise DataError(f"detection needs pycocotools; {install('evaluate')}")


@torch.inference_mode()
def detect(
    model: nn.Module, images: Sequence[VocImage], preset: DetectionPreset, device: torch.device, workers: int = 1
) -> list[Objects]:
    """The detections of each image, one image at a time, in its own pixels; labels are numbers of classes from 0."""
    model.eval()
    found = []
    with Progress(len(images), "image", "detecting") as progress:
        for image, pixels in zip(images, images_for_test(images, preset, workers)):
            (raw,) = model([pixels.to(device).float() / 255])
            scale = torch.tensor([image.width / pixels.shape[2], image.height / pixels.shape[1]] * 2, device=device)
            found.append(
                Objects(
                    boxes=(raw["boxes"] * scale).cpu().numpy(),
                    labels=raw["labels"].cpu().numpy() - 1,
                    scores=raw["scores"].cpu().numpy(),
                )
            )
            progress.update(1)
    return found


def truth(split: VocSplit) -> list[Objects]:
    """The annotated boxes of each image."""
    return [Objects(boxes=i.boxes, labels=i.labels, difficult=i.difficult) for i in split.images]


def uncounted(split: VocSplit) -> list[str]:
    """The classes that have no object that counts, so that they have no AP."""
    counted = {int(label) for image in split.images for label in image.labels[~image.difficult]}
    return [name for number, name in enumerate(split.classes) if number not in counted]


def measure(split: VocSplit, detections: Sequence[Objects]) -> dict[str, Any]:
    """All figures in percent: VOC07's and VOC2010's AP (as detectron2's evaluator has them, at .5 … .95) and COCO's.

    Raises:
        DataError: a class has no object in the split that counts.
    """
    if without := uncounted(split):
        raise DataError.naming("split {}: class {!r} has {}; give {classes}", split.name, without[0], UNCOUNTED)
    real = truth(split)
    by_metric = {
        metric: 100 * detection_ap(real, detections, len(split.classes), OVERLAPS, metric)
        for metric in ("11point", "area")
    }
    voc07 = by_metric["11point"]
    means = {name: _three(table.mean(axis=1)) for name, table in by_metric.items()}
    return {
        "voc07": means["11point"],
        "voc2010": means["area"],
        "coco": coco_ap(real, detections, split),
        "AP50_per_class": {name: round(float(value), 4) for name, value in zip(split.classes, voc07[0])},
    }


def _three(means: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    return {
        "AP": round(float(means.mean()), 4),
        "AP50": round(float(means[0]), 4),
        "AP75": round(float(means[5]), 4),
    }


def coco_ap(real: Sequence[Objects], detections: Sequence[Objects], split: VocSplit) -> dict[str, float]:
    """COCO's AP, AP50 and AP75 in percent by pycocotools; difficult objects are regions to ignore (COCO's crowds)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {"id": 0, "image_id": i, "category_id": int(label) + 1, "iscrowd": int(difficult), **_coco_box(box)}
        for i, objects in enumerate(real)
        for box, label, difficult in zip(objects.boxes, objects.labels, _all(objects.difficult))
    ]
    results = [
        {"image_id": i, "category_id": int(label) + 1, "score": float(score), **_coco_box(box)}
        for i, objects in enumerate(detections)
        for box, label, score in zip(objects.boxes, objects.labels, _all(objects.scores))
    ]
    if not results:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        data = COCO()
        data.dataset = {
            "info": {},
            "images": [{"id": i, "width": im.width, "height": im.height} for i, im in enumerate(split.images)],
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(split.classes)],
            "annotations": [{**annotation, "id": number + 1} for number, annotation in enumerate(annotations)],
        }
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: round(100 * float(evaluation.stats[k]), 4) for k, name in enumerate(("AP", "AP50", "AP75"))}


def _coco_box(box: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}


def _all(values: Any) -> Any:
    assert values is not None
    return values
