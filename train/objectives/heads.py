"""What stands on top of an encoder: multilayer perceptrons, and a classifier of the classes that a recipe uses."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import TrainingError

from .base import Setup, full, full_precision
from .ranks import mean_over_ranks


def mlp(*widths: int, end: nn.Module | None = None) -> nn.Sequential:
    """Linear - batch norm - ReLU for every hidden layer, then Linear, then ``end``.

    A Linear has a bias only where no batch norm follows. Shape: ``(N, widths[0]) -> (N, widths[-1])``.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=end is None))
    return nn.Sequential(*layers, *([] if end is None else [end]))


def require_labels(objective: str, setup: Setup) -> tuple[int, ...]:
    """The recipe's labels, ascending. Raises TrainingError if there are none."""
    if not setup.labels:
        raise TrainingError.naming(
            "{objective} {}: the dataset has no labels; wanted one of a conditional generator", objective
        )
    return tuple(sorted(set(setup.labels)))


class ClassHead(nn.Module):
    """A linear layer on the features with one output per class that the recipe uses, and its cross-entropy.

    A dataset's labels (any integers, -1 = none) become classes 0 … C-1.
    """

    known: Tensor  # (C,) int64, ascending: the label of each class

    def __init__(self, width: int, labels: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(width, len(labels))
        self.register_buffer("known", torch.tensor(labels, dtype=torch.int64))

    def classes(self, labels: Tensor) -> Tensor:
        """The place of each label among the recipe's, -1 for others. Shape: ``(B,) -> (B,)``."""
        place = torch.searchsorted(self.known, labels).clamp(max=len(self.known) - 1)
        return torch.where(self.known[place] == labels, place, -1)

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and accuracy (this rank's), means over the samples that have a class; 0 if none has.

        Shape: ``(B, width), (B,) -> (), ()``.
        """
        scores = self.linear(features)
        with full_precision(scores):
            scores, wanted = full(scores), self.classes(labels)
            labelled = (wanted >= 0).sum()
            total = F.cross_entropy(scores, wanted, ignore_index=-1, reduction="sum")
            right = (scores.detach().argmax(dim=1) == wanted).sum()
            return mean_over_ranks(total, labelled), right / labelled.clamp(min=1)
