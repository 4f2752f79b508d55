"""Both formulas of VOC, on cases by hand and against plain loops that follow the devkit."""

from __future__ import annotations

import numpy as np
import pytest

from genrep.evaluate.voc.average_precision import Objects, classification_ap, curve, detection_ap, iou


def ranking(*hits: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that fall, and which of them are right."""
    return np.arange(len(hits), 0, -1, dtype=np.float64), np.array(hits, dtype=bool)


@pytest.mark.parametrize(
    ("hits", "area", "eleven"),
    [
        ((1, 1, 0, 0), 1.0, 1.0),
        ((0, 1), 0.5, 0.5),
        # precision 1 up to recall 1/2, then 2/3: 6 of 11 points see 1, 5 see 2/3
        ((1, 0, 1), 1 / 2 + 1 / 2 * 2 / 3, (6 + 5 * 2 / 3) / 11),
        # precision at the hits 1/2, 2/3 (raised to 3/4), 3/4
        ((0, 1, 1, 1), 3 / 4, 3 / 4),
        # ten hits, one in between: precision 1 up to recall .3 (4 points with 0), then 10/11
        ((1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1), 0.3 + 0.7 * 10 / 11, (4 + 7 * 10 / 11) / 11),
    ],
)
def test_by_hand(hits: tuple[int, ...], area: float, eleven: float) -> None:
    assert classification_ap(*ranking(*hits), "area") == pytest.approx(area, abs=1e-12)
    assert classification_ap(*ranking(*hits), "11point") == pytest.approx(eleven, abs=1e-12)


def loop_area(recall: list[float], precision: list[float]) -> float:
    """The devkit of 2010: pad, make the precision fall, add up the rectangles where the recall changes."""
    r, p = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(p) - 2, -1, -1):
        p[i] = max(p[i], p[i + 1])
    return sum((r[i + 1] - r[i]) * p[i + 1] for i in range(len(r) - 1) if r[i + 1] != r[i])


def loop_eleven(recall: list[float], precision: list[float]) -> float:
    """The devkit of 2007."""
    return sum(max([p for r, p in zip(recall, precision) if r >= t / 10], default=0.0) for t in range(11)) / 11


def test_against_plain_loops() -> None:
    random = np.random.RandomState(0)
    for _ in range(50):
        scores, hits = random.rand(40), random.rand(40) < 0.3
        if not hits.any():
            continue
        recall, precision = (values.tolist() for values in curve(scores, hits, int(hits.sum())))
        assert classification_ap(scores, hits, "area") == pytest.approx(loop_area(recall, precision), abs=1e-12)
        assert classification_ap(scores, hits, "11point") == pytest.approx(loop_eleven(recall, precision), abs=1e-12)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def image(real: np.ndarray, difficult: list[bool], found: np.ndarray, scores: list[float]) -> tuple[Objects, Objects]:
    zeros = np.zeros(len(real), dtype=np.int64), np.zeros(len(found), dtype=np.int64)
    return (
        Objects(boxes=real, labels=zeros[0], difficult=np.array(difficult, dtype=bool)),
        Objects(boxes=found, labels=zeros[1], scores=np.array(scores, dtype=np.float32)),
    )


def test_detections_by_hand() -> None:
    """Two objects and a difficult one; the second detection repeats the first, the third hits the difficult one."""
    a, b, hard = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
    real, found = image(
        boxes(a, b, hard),
        [False, False, True],
        boxes(a, (1, 0, 11, 10), hard, (60, 0, 70, 10), b),
        [0.9, 0.8, 0.7, 0.6, 0.5],
    )
    # counted: right, false (repeats), [difficult], false, right -> precision 1, 1/2, 1/3, 2/4 at recall 1/2 … 1
    table = detection_ap([real], [found], 2, [0.5, 0.95], "area")
    assert table.shape == (2, 2)
    assert table[0, 0] == pytest.approx(1 / 2 + 1 / 2 * 1 / 2)
    assert np.isnan(table[:, 1]).all()  # nothing of class 1
    assert detection_ap([real], [found], 1, [0.5], "11point")[0, 0] == pytest.approx((6 + 5 / 2) / 11)


def test_an_overlap_of_just_the_threshold_counts() -> None:
    real, found = image(boxes((0, 0, 10, 10)), [False], boxes((0, 0, 10, 5)), [0.5])
    assert iou(found.boxes, real.boxes)[0, 0] == 0.5
    assert detection_ap([real], [found], 1, [0.5], "area")[0, 0] == 1.0


def test_no_detections_are_zero() -> None:
    real, found = image(boxes((0, 0, 10, 10)), [False], boxes(), [])
    assert detection_ap([real], [found], 1, [0.5], "area")[0, 0] == 0.0
    assert detection_ap([real], [found], 1, [0.5], "11point")[0, 0] == 0.0


def devkit(truth: list[Objects], found: list[Objects], overlap: float) -> tuple[list[float], list[float]]:
    """Recall and precision as the devkit computes them: one list over all images, VOC's own coordinates and +1 widths."""
    everything = [(float(s), i, k) for i, objects in enumerate(found) for k, s in enumerate(objects.scores)]
    positives = sum(int((~objects.difficult).sum()) for objects in truth)
    used, right, false, recall, precision = set(), 0, 0, [], []
    for _, i, k in sorted(everything, key=lambda item: -item[0]):
        x0, y0, x1, y1 = (float(v) for v in found[i].boxes[k] + np.array([1, 1, 0, 0]))
        best, which = -1.0, -1
        for j, row in enumerate(truth[i].boxes):
            gx0, gy0, gx1, gy1 = (float(v) for v in row + np.array([1, 1, 0, 0]))
            width, height = min(x1, gx1) - max(x0, gx0) + 1, min(y1, gy1) - max(y0, gy0) + 1
            if width <= 0 or height <= 0:
                continue
            union = (x1 - x0 + 1) * (y1 - y0 + 1) + (gx1 - gx0 + 1) * (gy1 - gy0 + 1) - width * height
            if width * height / union > best:
                best, which = width * height / union, j
        if best >= overlap:
            if truth[i].difficult[which]:
                continue
            if (i, which) in used:
                false += 1
            else:
                used.add((i, which))
                right += 1
        else:
            false += 1
        recall.append(right / positives)
        precision.append(right / (right + false))
    return recall, precision


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.75])
def test_random_detections_against_the_devkits_loop(overlap: float) -> None:
    random = np.random.RandomState(1)
    truth, found = [], []
    for _ in range(12):
        corners = random.randint(0, 60, (5, 2))
        real = np.concatenate([corners, corners + random.randint(8, 30, (5, 2))], axis=1).astype(np.float32)
        moved = np.repeat(real, 3, axis=0) + random.randint(-4, 5, (15, 4)).astype(np.float32)
        one, two = image(real, (random.rand(5) < 0.2).tolist(), moved, random.permutation(1000)[:15].tolist())
        truth.append(one)
        found.append(two)
    recall, precision = devkit(truth, found, overlap)
    for metric, formula in (("area", loop_area), ("11point", loop_eleven)):
        ours = detection_ap(truth, found, 1, [overlap], metric)[0, 0]
        assert 0 < ours < 1
        assert ours == pytest.approx(formula(recall, precision), abs=1e-9)
