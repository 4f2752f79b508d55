"""One linear SVM per class, its cost chosen by cross-validation, as GenRep and COP-Gen fitted them.

scikit-learn's ``LinearSVC`` (liblinear) with squared hinge, l2, dual, tolerance 1e-4, at most 2000 rounds, positives weighing
twice. Every fit is seeded by itself and runs in whichever process is free: the number of processes changes nothing.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import DataError
from genrep.extras import install
from genrep.progress import Progress
from genrep.seeding import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int8]  # 1 = shown, -1 = not shown, 0 = leave the image out

FOLDS = 3
MAX_ITER = 2000
EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class ClassSvm:
    """A class's SVM on test images."""

    cost: float
    cv_ap: tuple[float, ...]  # mean AP over the folds at each cost, in [0, 1]
    scores: Floats  # (M,) of all test images
    unconverged: int  # fits that liblinear ended at its last round


def normalised(features: NDArray[np.float32]) -> Floats:
    """Rows of length (almost) 1: ``f / (|f| + 1e-5)``. Shape: ``(N, D)``."""
    rows = features.astype(np.float64)
    return np.ascontiguousarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + EPSILON))


def check_installed() -> None:
    """Raises DataError if scikit-learn is not there."""
    if importlib.util.find_spec("sklearn") is None:
        raise DataError(f"voc07 needs scikit-learn; {install('evaluate')}")


def unmeasurable(labels: Labels, names: Sequence[str], split: str, *, least: int) -> dict[str, str]:
    """Classes that fewer than ``least`` images show, or fewer do not show, with the reason. Shape: ``(N, classes)``."""
    found: dict[str, str] = {}
    for column, name in zip(labels.T, names):
        for sign, what in ((1, "show"), (-1, "do not show")):
            if (count := int((column == sign).sum())) < least:
                found.setdefault(name, f"{count} images of {split} {what} it, wanted {least}")
    return found


def fit_classes(
    train: Floats,
    labels: Labels,
    test: Floats,
    *,
    costs: Sequence[float],
    seed: int,
    processes: int = 1,
) -> list[ClassSvm]:
    """For each class: the cost with the best mean AP over 3 folds (the smallest of equals), refitted on all images.

    Shape: train ``(N, D)``, labels ``(N, classes)``, test ``(M, D)``.

    ``unmeasurable`` says whether the labels will do.
    """
    from sklearn.utils.parallel import Parallel, delayed

    columns = range(labels.shape[1])
    grid = [(column, cost) for column in columns for cost in sorted(costs, reverse=True)]  # the slowest fits first
    with Progress(len(grid) * FOLDS + len(columns), "fit", "SVMs") as progress:
        pool = Parallel(n_jobs=processes, return_as="generator", pre_dispatch="2 * n_jobs", batch_size=1)
        validated: dict[tuple[int, float], tuple[float, int]] = {}
        for place, found in zip(grid, pool(delayed(_validate)(train, labels[:, c], cost, seed) for c, cost in grid)):
            validated[place] = found
            progress.update(FOLDS)
        best = {c: max(sorted(costs), key=lambda cost: validated[c, cost][0]) for c in columns}
        tested = []
        for found_scores in pool(delayed(_test)(train, labels[:, c], test, best[c], seed) for c in columns):
            tested.append(found_scores)
            progress.update(1)
    return [
        ClassSvm(
            cost=best[c],
            cv_ap=tuple(validated[c, cost][0] for cost in costs),
            scores=tested[c][0],
            unconverged=tested[c][1] + sum(validated[c, cost][1] for cost in costs),
        )
        for c in columns
    ]


def _fit(features: Floats, labels: Labels, cost: float, seed: int) -> tuple[Any, int]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    svm = LinearSVC(
        C=cost,
        class_weight={1: 2, -1: 1},
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        tol=1e-4,
        max_iter=MAX_ITER,
        random_state=derive("voc07-svm", seed) % 2**31,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        svm.fit(features, labels)
    return svm, sum(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _validate(features: Floats, labels: Labels, cost: float, seed: int) -> tuple[float, int]:
    """Mean of scikit-learn's AP over the folds, and how many fits did not converge."""
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold

    features, labels = _shown(features, labels)
    values, unconverged = [], 0
    for fitted, held_out in StratifiedKFold(FOLDS).split(features, labels):
        svm, ended = _fit(features[fitted], labels[fitted], cost, seed)
        unconverged += ended
        values.append(average_precision_score(labels[held_out], svm.decision_function(features[held_out])))
    return float(np.mean(values)), unconverged


def _test(features: Floats, labels: Labels, test: Floats, cost: float, seed: int) -> tuple[Floats, int]:
    svm, ended = _fit(*_shown(features, labels), cost, seed)
    return svm.decision_function(test), ended


def _shown(features: Floats, labels: Labels) -> tuple[Floats, Labels]:
    kept = labels != 0
    return (features, labels) if kept.all() else (features[kept], labels[kept])
