"""The confusion matrix against a plain loop and scikit-learn, and the means that follow from it."""

from __future__ import annotations

import numpy as np
import pytest

from genrep.errors import DataError
from genrep.evaluate.segmentation.confusion import Confusion

CLASSES = 5


@pytest.fixture
def masks() -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth with void and without class 3; predictions with void and without class 4."""
    random = np.random.RandomState(0)
    found = []
    for shape in ((7, 9), (1, 30), (20, 4)):
        truth = random.choice([0, 1, 2, 4, 255], shape).astype(np.uint8)
        found.append(
            (
                truth,
                np.where(random.rand(*shape) < 0.5, truth % 4, random.choice([0, 1, 3, 255], shape)).astype(np.uint8),
            )
        )
    return found


def counted(masks: list[tuple[np.ndarray, np.ndarray]]) -> Confusion:
    confusion = Confusion(CLASSES)
    for truth, predicted in masks:
        confusion.add(truth, predicted)
    return confusion


def test_it_equals_a_plain_loop(masks: list[tuple[np.ndarray, np.ndarray]]) -> None:
    wanted = np.zeros((CLASSES, CLASSES + 1), dtype=np.int64)
    for truth, predicted in masks:
        for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist()):
            if t != 255:
                wanted[t, min(p, CLASSES)] += 1
    found = counted(masks)
    assert found.counts.dtype == np.int64 and (found.counts == wanted).all()
    ratios = []
    for c in range(CLASSES):
        is_c = [((t == c), (p == c) & (t != 255)) for t, p in masks]
        union = sum((a | b).sum() for a, b in is_c)
        ratios += [sum((a & b).sum() for a, b in is_c) / union] if union else []
    assert found.mean_iou() == pytest.approx(100 * np.mean(ratios), abs=1e-6)
    assert found.mean_iou(void_counts=True) == pytest.approx(100 * np.mean([*ratios, 0]), abs=1e-6)


@pytest.mark.slow
def test_it_equals_scikit_learns(masks: list[tuple[np.ndarray, np.ndarray]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    found = counted(masks)
    truth, predicted = (np.concatenate([pair[k].ravel() for pair in masks]) for k in (0, 1))
    kept = truth != 255
    theirs = metrics.confusion_matrix(truth[kept], predicted[kept], labels=[*range(CLASSES), 255])
    assert (theirs[:CLASSES] == found.counts).all()
    # CAPI's code: the mean over all labels that occur on either side, void among them.
    capi = metrics.jaccard_score(truth[kept], predicted[kept], average="macro")
    assert found.mean_iou(void_counts=True) == pytest.approx(100 * capi, abs=1e-6)
    ours = metrics.jaccard_score(truth[kept], predicted[kept], average="macro", labels=range(CLASSES))
    assert found.mean_iou() == pytest.approx(100 * ours, abs=1e-6)


def test_the_figures(masks: list[tuple[np.ndarray, np.ndarray]]) -> None:
    figures = counted(masks).figures("abcde")
    assert figures["IoU_per_class"]["d"] == 0  # predicted, never there
    assert figures["mIoU"] == pytest.approx(np.mean(list(figures["IoU_per_class"].values())), abs=1e-3)
    right = sum(((t == p) & (t != 255)).sum() for t, p in masks)
    assert figures["pixel_accuracy"] == pytest.approx(100 * right / sum((t != 255).sum() for t, _ in masks), abs=1e-5)


def test_a_class_that_is_nowhere_has_no_part_in_the_mean() -> None:
    truth = np.array([[0, 1], [1, 255]], dtype=np.uint8)
    confusion = counted([(truth, truth)])
    assert confusion.mean_iou() == 100 and list(confusion.figures("abcde")["IoU_per_class"]) == ["a", "b"]


def test_masks_of_void_alone_have_no_value() -> None:
    void = np.full((2, 2), 255, dtype=np.uint8)
    with pytest.raises(DataError, match="void everywhere"):
        counted([(void, np.zeros_like(void))]).mean_iou()
