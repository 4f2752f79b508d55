"""Average precision of a ranking: Pascal VOC's two formulas, and detections against annotated boxes.

VOC07 averages the interpolated precision at the recalls 0, .1, …, 1; VOC2010 takes the area under it. Interpolated: at each
recall, the largest precision at that recall or a higher one (Everingham et al. 2010, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

METRICS = ("area", "11point")


def curve(scores: NDArray[np.floating], hits: NDArray[np.bool_], positives: int) -> tuple[Floats, Floats]:
    """Recall and precision after each rank, best score first; equal scores keep their order. Shape: ``(N,)`` each."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hits[order], dtype=np.float64)
    return found / positives, found / np.arange(1, len(scores) + 1)


def area(recall: Floats, precision: Floats) -> float:
    """The area under the interpolated curve (VOC2010; GenRep's and COP-Gen's classification), in [0, 1]."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * highest))


def eleven_point(recall: Floats, precision: Floats) -> float:
    """The mean interpolated precision at the recalls 0, .1, …, 1 (VOC07), in [0, 1]."""
    points = np.arange(11) / 10  # not multiples of 0.1: 3 * 0.1 is more than a recall of 3 / 10
    return float(np.mean([precision[recall >= point].max(initial=0.0) for point in points]))


def classification_ap(scores: NDArray[np.floating], positive: NDArray[np.bool_], metric: str) -> float:
    """AP of images ranked by their score for a class, in [0, 1]. Shape: ``(N,)`` each."""
    return _ap(*curve(scores, positive, int(positive.sum())), metric)


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Boxes of one image: annotated ones, or detections."""

    boxes: NDArray[np.float32]  # (K, 4): x0, y0, x1, y1 in pixels, the ends outside
    labels: NDArray[np.int64]  # (K,)
    scores: NDArray[np.float32] | None = None  # (K,) of detections
    difficult: NDArray[np.bool_] | None = None  # (K,) of annotations


def detection_ap(
    truth: Sequence[Objects], detections: Sequence[Objects], num_classes: int, overlaps: Sequence[float], metric: str
) -> Floats:
    """AP of every class at each least overlap by VOC's rule, in [0, 1]; NaN for a class without an object that counts.

    Detections of a class, best first over all images, each look at the annotated box that they overlap most: it counts as
    found by the first that comes, the others are false; those whose box is difficult count for nothing, and neither does
    the box. VOC's widths of xmax - xmin + 1 are those of boxes whose ends lie outside, as these do.

    Shape: ``(len(overlaps), num_classes)``.

    Args:
        overlaps: least intersections over union, e.g. (.5,) for AP50.
    """
    rows = [_class_ap(truth, detections, label, overlaps, metric) for label in range(num_classes)]
    return np.array(rows, dtype=np.float64).reshape(num_classes, len(overlaps)).T


def _class_ap(
    truth: Sequence[Objects], detections: Sequence[Objects], label: int, overlaps: Sequence[float], metric: str
) -> list[float]:
    positives = 0
    scores, verdicts = [np.empty(0, dtype=np.float32)], [np.empty((len(overlaps), 0), dtype=np.int64)]
    for real, found in zip(truth, detections):
        assert real.difficult is not None and found.scores is not None
        mine, theirs = real.labels == label, found.labels == label
        difficult = real.difficult[mine]
        positives += int((~difficult).sum())
        if theirs.any():
            scores.append(found.scores[theirs])
            shared = iou(found.boxes[theirs], real.boxes[mine])
            verdicts.append(np.stack([_match(shared, difficult, scores[-1], overlap) for overlap in overlaps]))
    if not positives:
        return [float("nan")] * len(overlaps)
    ranked, judged = np.concatenate(scores), np.concatenate(verdicts, axis=1)
    return [_ap(*curve(ranked[row >= 0], row[row >= 0] == 1, positives), metric) for row in judged]


def _match(
    shared: Floats, difficult: NDArray[np.bool_], scores: NDArray[np.float32], overlap: float
) -> NDArray[np.int64]:
    """1 = right, 0 = false, -1 = counts for nothing, for each detection of one class in one image. Shape: ``(D,)``."""
    verdict = np.zeros(len(shared), dtype=np.int64)
    if not shared.shape[1]:
        return verdict
    taken = np.zeros(shared.shape[1], dtype=np.bool_)
    nearest = shared.argmax(axis=1)
    for i in np.argsort(-scores, kind="stable"):
        best = nearest[i]
        if shared[i, best] < overlap:
            continue
        if difficult[best]:
            verdict[i] = -1
        elif not taken[best]:
            verdict[i], taken[best] = 1, True
    return verdict


def iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
    """Intersection over union. Shape: ``(A, 4), (B, 4) -> (A, B)``."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(axis=2)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=2) for box in (a, b)]
    return common / (areas[0] + areas[1] - common)


def _ap(recall: Floats, precision: Floats, metric: str) -> float:
    return area(recall, precision) if metric == "area" else eleven_point(recall, precision)
