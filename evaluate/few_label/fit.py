"""Draws of a few labelled images of each class, and the regressions on all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrep.errors import DataError
from genrep.progress import Progress
from genrep.seeding import derive, uniforms

TOLERANCE = 1e-9  # of the gradient's length, against that where all parameters are 0; in float64
MOST_STEPS, MOST_CONJUGATE, MOST_HALVINGS = 200, 1000, 40
ROUNDING = 1e-15
MOST_BYTES = 1 << 29  # of the drawn features that are held at a time
ROWS = 16384  # of test features whose scores are held at a time


def few_label_accuracies(
    train: Tensor,
    train_labels: NDArray[np.int64],
    test: Tensor,
    test_labels: NDArray[np.int64],
    *,
    classes: Sequence[str],
    per_class: int,
    draws: int = 50,
    seed: int = 0,
    inverse_l2: float = 1.0,
    device: torch.device | str = "cpu",
) -> list[float]:
    """The top-1 (%) on the test images after each draw of ``per_class`` labelled training images of each class.

    Features are standardised by the mean and standard deviation of all training features; no label and no test image has a part
    in them. Each draw's classifier is multinomial logistic regression with an L2 penalty, fitted to convergence:
    scikit-learn's ``LogisticRegression(C=inverse_l2)``.

    Args:
        train: Shape ``(N, D)``.
        test: Shape ``(T, D)``.
        train_labels, test_labels: Shapes ``(N,)``, ``(T,)``: places in ``classes``.

    Raises:
        DataError: a class has too few training images.
    """
    place = torch.device(device)
    mean, scale = _spread(train)
    rows = draw_labelled(train_labels, classes=classes, per_class=per_class, draws=draws, seed=seed)
    wanted = torch.from_numpy(np.repeat(np.arange(len(classes)), per_class)).to(place)
    answers = torch.from_numpy(test_labels)
    held = max(1, MOST_BYTES // (8 * rows.shape[1] * train.shape[1]))
    found: list[float] = []
    with Progress(draws, "draw", f"{per_class} labels a class") as progress:
        for first in range(0, draws, held):
            chosen = torch.from_numpy(rows[first : first + held])
            drawn = ((train[chosen.flatten()].double() - mean) / scale).view(*chosen.shape, -1).to(place)
            weight, bias = fit_draws(drawn, wanted, num_classes=len(classes), inverse_l2=inverse_l2)
            found += _accuracies(weight, bias, (mean, scale), test, answers)
            progress.update(len(chosen))
    return found


def draw_labelled(
    labels: NDArray[np.int64], *, classes: Sequence[str], per_class: int, draws: int, seed: int
) -> NDArray[np.int64]:
    """The rows of the labelled images of each draw, class by class: functions of (seed, draw, row) and the labels.

    A draw of more labels holds those of a draw of fewer.

    Shape: ``-> (draws, len(classes) * per_class)``.

    Raises:
        DataError: a class has too few images.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < per_class:
        least = int(counts.argmin())
        raise DataError.naming(
            "{labels} {}: class {} has {} training images; wanted at least that many of each class",
            per_class,
            classes[least],
            int(counts[least]),
        )
    begins = np.concatenate([[0], counts.cumsum()[:-1]])
    places = (begins[:, None] + np.arange(per_class)).ravel()
    index = np.arange(len(labels), dtype=np.int64)
    found = []
    for draw in range(draws):
        numbers = uniforms(derive("few-label", seed, draw), index, 0, 1)[:, 0]
        found.append(np.lexsort((numbers, labels))[places])
    return np.stack(found)


def fit_draws(features: Tensor, labels: Tensor, *, num_classes: int, inverse_l2: float) -> tuple[Tensor, Tensor]:
    """Logistic regression on each draw: the minimum of C Σ cross-entropy + ½ Σ squared weights; biases are free.

    Newton's method for all draws at once, whose steps are found by conjugate gradients and halved where they go too far. The
    features are turned into the space that a draw's images span, which changes no inner product and so no penalty.

    Args:
        features: Shape ``(R, M, D)``, float64.
        labels: Shape ``(M,)``: the same for all draws.

    Returns:
        Weights and biases, of shapes ``(R, C, D)`` and ``(R, C)``.
    """
    draws, count, dim = features.shape
    basis = torch.linalg.qr(features.mT).Q if count < dim else None  # (R, D, M)
    turned = features if basis is None else features @ basis
    ones = turned.new_ones(draws, count, 1)
    problem = _Regressions(torch.cat([turned, ones], dim=2), labels, num_classes, inverse_l2)
    found = problem.minimum()
    weight, bias = found[..., :-1], found[..., -1]
    return (weight if basis is None else weight @ basis.mT), bias


class _Regressions:
    """Separate problems of one size; parameters have the shape ``(R, C, E)``, the bias last."""

    def __init__(self, rows: Tensor, labels: Tensor, num_classes: int, inverse_l2: float) -> None:
        self.rows, self.inverse_l2 = rows, inverse_l2  # (R, M, E)
        self.wanted = F.one_hot(labels, num_classes).to(rows)  # (M, C)
        self.penalty = torch.ones_like(rows[0, 0])
        self.penalty[-1] = 0.0

    def minimum(self) -> Tensor:
        """The parameters of all problems, where their gradients have fallen by ``TOLERANCE``."""
        number, classes, size = len(self.rows), self.wanted.shape[1], self.rows.shape[2]
        found = self.rows.new_zeros(number, classes, size)
        value, gradient, parts = self._at(found)
        first = gradient.flatten(1).norm(dim=1)
        for _ in range(MOST_STEPS):
            length = gradient.flatten(1).norm(dim=1)
            if bool((length <= TOLERANCE * first).all()):
                break
            step = self._newton(gradient, parts, (length / first).clamp(min=1e-4, max=0.1))
            slope = (gradient * step).sum(dim=(1, 2))
            size_of_step = torch.ones_like(slope)
            for _ in range(MOST_HALVINGS):
                there = found + size_of_step[:, None, None] * step
                new = self._at(there)
                far = new[0] > value + 1e-4 * size_of_step * slope + ROUNDING * value.abs()
                if not bool(far.any()):
                    break
                size_of_step = torch.where(far, size_of_step / 2, size_of_step)
            found, (value, gradient, parts) = there, new
        return found

    def _at(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``(R,)``, gradients, and the probabilities ``(R, M, C)``."""
        logs = (self.rows @ parameters.mT).log_softmax(dim=2)
        held = parameters * self.penalty
        value = -self.inverse_l2 * (logs * self.wanted).sum(dim=(1, 2)) + held.square().sum(dim=(1, 2)) / 2
        parts = logs.exp()
        return value, self.inverse_l2 * (parts - self.wanted).mT @ self.rows + held, parts

    def _curved(self, direction: Tensor, parts: Tensor) -> Tensor:
        """The Hessian times a direction."""
        moved = self.rows @ direction.mT
        moved = parts * (moved - (parts * moved).sum(dim=2, keepdim=True))
        return self.inverse_l2 * moved.mT @ self.rows + direction * self.penalty

    def _newton(self, gradient: Tensor, parts: Tensor, part: Tensor) -> Tensor:
        """Newton's step of each problem, until its residual has fallen to ``part`` of the gradient."""
        step, residual = torch.zeros_like(gradient), -gradient
        direction, squares = residual, _squares(residual)
        enough = part.square() * squares
        for _ in range(MOST_CONJUGATE):
            active = squares > enough
            if not bool(active.any()):
                break
            curved = self._curved(direction, parts)
            bend = (direction * curved).sum(dim=(1, 2))
            along = torch.where(active & (bend > 0), squares / bend, 0.0)
            step = step + along[:, None, None] * direction
            residual = residual - along[:, None, None] * curved
            new = _squares(residual)
            turn = torch.where(active, new / squares, 0.0)
            direction = residual + turn[:, None, None] * direction
            squares = torch.where(bend > 0, new, 0.0)
        return step


def _squares(values: Tensor) -> Tensor:
    return values.square().sum(dim=(1, 2))


def _spread(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, in float64; 1 for one that is constant. Shapes: ``(D,)``, ``(D,)``."""
    total, squares = (torch.zeros(train.shape[1], dtype=torch.float64) for _ in range(2))
    for part in train.split(ROWS):
        total += part.double().sum(dim=0)
    mean = total / len(train)
    for part in train.split(ROWS):
        squares += (part.double() - mean).square().sum(dim=0)
    scale = (squares / len(train)).sqrt()
    return mean, torch.where(scale > 0, scale, 1.0)


def _accuracies(
    weight: Tensor, bias: Tensor, spread: tuple[Tensor, Tensor], test: Tensor, answers: Tensor
) -> list[float]:
    """Top-1 (%) of each draw's classifier."""
    draws, classes, dim = weight.shape
    mean, scale = spread
    flat, place = weight.view(-1, dim).T, weight.device
    right = torch.zeros(draws, dtype=torch.int64, device=place)
    for part, wanted in zip(test.split(ROWS), answers.split(ROWS)):
        rows = ((part.double() - mean) / scale).to(place)
        scores = (rows @ flat).view(-1, draws, classes) + bias
        right += (scores.argmax(dim=2) == wanted.to(place)[:, None]).sum(dim=0)
    return (100 * right.double() / len(test)).tolist()
