"""SVMs and their costs are those of scikit-learn by hand, and do not depend on how many processes fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from genrep.evaluate.voc.config import COSTS
from genrep.evaluate.voc.svm import fit_classes, normalised, unmeasurable

RANDOM = np.random.RandomState(0)
HIDDEN = RANDOM.normal(size=(150, 3))
FEATURES = normalised((HIDDEN @ RANDOM.normal(size=(3, 12)) + RANDOM.normal(size=(150, 12))).astype(np.float32))
LABELS = np.where(HIDDEN[:, :2] > 0.7, 1, -1).astype(np.int8)
TRAIN, TEST = FEATURES[:100], FEATURES[100:]


def by_hand(column: np.ndarray, cost: float) -> LinearSVC:
    return LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=2000, random_state=5)


def test_the_grid_has_the_papers_26_costs() -> None:
    assert len(COSTS) == 26
    assert {1e-7, 1e-3, 1.0, 10.0, 100.0, 0.5**4, 0.5**19} <= set(COSTS) and min(COSTS) == 1e-7 and max(COSTS) == 100


def test_agrees_with_scikit_learn_by_hand() -> None:
    costs = (1e-4, 0.01, 1.0)
    found = fit_classes(TRAIN, LABELS[:100], TEST, costs=costs, seed=0)
    for column, svm in zip(LABELS.T, found):
        wanted = [
            cross_val_score(by_hand(column, cost), TRAIN, column[:100], cv=3, scoring="average_precision").mean()
            for cost in costs
        ]
        np.testing.assert_allclose(svm.cv_ap, wanted, atol=1e-3)
        assert svm.cost == costs[int(np.argmax(svm.cv_ap))]
        mine = average_precision_score(column[100:], svm.scores)
        theirs = by_hand(column, svm.cost).fit(TRAIN, column[:100]).decision_function(TEST)
        assert mine == pytest.approx(average_precision_score(column[100:], theirs), abs=1e-3)
        assert mine > 0.6


def test_images_labelled_0_are_left_out() -> None:
    labels = LABELS[:100].copy()
    labels[::5] = 0
    kept = labels[:, 0] != 0
    with_zeros = fit_classes(TRAIN, labels[:, :1], TEST, costs=(0.1,), seed=0)[0]
    without = fit_classes(TRAIN[kept], labels[kept][:, :1], TEST, costs=(0.1,), seed=0)[0]
    np.testing.assert_array_equal(with_zeros.scores, without.scores)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing() -> None:
    one, two = (fit_classes(TRAIN, LABELS[:100], TEST, costs=(0.01, 100.0), seed=3, processes=n) for n in (1, 2))
    for mine, theirs in zip(one, two):
        assert (mine.cost, mine.cv_ap, mine.unconverged) == (theirs.cost, theirs.cv_ap, theirs.unconverged)
        np.testing.assert_array_equal(mine.scores, theirs.scores)


def test_fits_that_do_not_converge_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrep.evaluate.voc.svm.MAX_ITER", 1)
    assert fit_classes(TRAIN, LABELS[:100, :1], TEST, costs=(100.0,), seed=0)[0].unconverged == 4  # 3 folds, 1 refit


def test_rows_have_length_one() -> None:
    rows = normalised(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[3 / 5.00001, 4 / 5.00001], [0, 0]])


def test_a_class_without_enough_images_is_named() -> None:
    labels = np.array([[1, 1], [1, 1], [-1, 1], [-1, -1], [0, -1], [-1, -1]], dtype=np.int8)
    assert unmeasurable(labels, ("cat", "dog"), "train", least=2) == {}
    assert unmeasurable(labels, ("cat", "dog"), "train", least=3) == {"cat": "2 images of train show it, wanted 3"}
    found = unmeasurable(labels[:4], ("cat", "dog"), "train", least=2)
    assert found == {
        "dog": "1 images of train do not show it, wanted 2",
    }
