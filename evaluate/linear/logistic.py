"""Multinomial logistic regression by L-BFGS with an L2 penalty (SimCLR, appendix B.8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrep.progress import Progress
from genrep.seeding import derive

from .config import HELD_OUT, L2_GRID
from .heads import mean_squared_length
from .scores import Features, Score, evaluate_heads

MAX_ITERATIONS = 1000
TOLERANCE = 1e-5  # of the gradient's largest part
CHUNK = 65536  # rows whose logits are held at a time


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """A fitted classifier. Shapes: ``(C, D)``, ``(C,)``."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Shape: ``(B, D) -> (B, 1, C)``: as of ``Heads``."""
        return F.linear(features, self.weight, self.bias)[:, None]


def fit_logistic(
    train: Features, *, num_classes: int, l2: float, device: torch.device, start: Logistic | None = None
) -> Logistic:
    """Minimise the mean cross-entropy plus ``l2 / 2`` times the squared weights; the bias is not penalised.

    The same as scikit-learn's ``LogisticRegression(C=1 / (l2 * N))``. It is fitted to features less their mean, which the
    bias makes up for: the same minimum, found in a fraction of the iterations.
    """
    dim = train.features.shape[1]
    mean = _mean(train.features, device)
    weight = torch.zeros(num_classes, dim, device=device) if start is None else start.weight.clone()
    bias = torch.zeros(num_classes, device=device) if start is None else start.bias + start.weight @ mean
    weight.requires_grad_()
    bias.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=TOLERANCE,
        tolerance_change=1e-10,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = l2 / 2 * weight.square().sum()
        loss.backward()
        total = loss.detach()
        for features, labels in zip(train.features.split(CHUNK), train.labels.split(CHUNK)):
            logits = F.linear(features.to(device) - mean, weight, bias)
            part = F.cross_entropy(logits, labels.to(device), reduction="sum") / len(train)
            part.backward()
            total = total + part.detach()
        return total

    optimiser.step(closure)
    return Logistic(weight=weight.detach(), bias=bias.detach() - weight.detach() @ mean)


def _mean(features: Tensor, device: torch.device) -> Tensor:
    total = sum((part.to(device).sum(dim=0) for part in features.split(CHUNK)), torch.zeros((), device=device))
    return total / len(features)


def probe_logistic(
    train: Features, test: Features, *, num_classes: int, seed: int, metric: str, device: torch.device
) -> tuple[Score, float]:
    """Score on the test images, and the penalty that was best on held-out training images (the middle of equals).

    Each fit begins where the next stronger penalty ended; the last is of all training images.

    Raises:
        TrainingError: the features are too large for float32.
    """
    mean_squared_length(train.features)
    inside, outside = held_out(train.labels.numpy(), seed)
    part = Features(features=train.features[inside], labels=train.labels[inside]).to(device)
    check = Features(features=train.features[outside], labels=train.labels[outside]).to(device)
    found: Logistic | None = None
    values: dict[float, float] = {}
    with Progress(len(L2_GRID) + 1, "fit", "logistic regression") as progress:
        for l2 in sorted(L2_GRID, reverse=True):
            found = fit_logistic(part, num_classes=num_classes, l2=l2, device=device, start=found)
            values[l2] = evaluate_heads(found.logits, check, 1, num_classes, device)[0].value(metric)
            progress.update(1, held_out=f"{values[l2]:.2f}")
        equals = [l2 for l2, value in values.items() if value == max(values.values())]
        best_l2 = equals[len(equals) // 2]
        final = fit_logistic(train.to(device), num_classes=num_classes, l2=best_l2, device=device)
        progress.update(1)
    return evaluate_heads(final.logits, test, 1, num_classes, device)[0], best_l2


def held_out(labels: NDArray[np.int64], seed: int, part: int = HELD_OUT) -> tuple[Tensor, Tensor]:
    """Rows to fit and rows to check, one in ``part`` of each class (none of a class of one), chosen by the seed."""
    key = derive("probe-held-out", seed)
    stream = np.random.RandomState([key & 0xFFFFFFFF, key >> 32])
    check = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = stream.permutation(np.flatnonzero(labels == label))
        check[rows[: max(len(rows) // part, min(1, len(rows) - 1))]] = True
    return torch.from_numpy(np.flatnonzero(~check)), torch.from_numpy(np.flatnonzero(check))
