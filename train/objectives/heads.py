"""The parts that an objective adds to an encoder: heads, a moving average, and a queue of past embeddings.

Heads are multilayer perceptrons, and a classifier of the classes that a recipe uses. Averages and memories are the same on all
ranks.
"""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genrep.errors import TrainingError, one_of

from .base import Setup, full, full_precision
from .pairs import gather, mean_over_ranks


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
            "{objective} {}: requires labels, which the dataset lacks; wanted a dataset of a conditional generator",
            objective,
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


SCHEDULES = ("constant", "cosine")


class Target(nn.Module):
    """A copy of an encoder and its projector, without gradients.

    It stays in training mode, as BYOL's, MoCo's and DINO's do: its batch norm takes the batch's statistics. Only parameters
    follow; the running statistics are its own. It never drops a path (stochastic depth), as none of theirs does.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.networks = nn.Sequential(deepcopy(encoder), deepcopy(projector)).requires_grad_(False)
        for module in self.networks.modules():
            if hasattr(module, "drop_prob"):  # timm's DropPath
                module.drop_prob = 0.0  # type: ignore[assignment]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.networks(images)
        return output

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projector: nn.Module, momentum: float) -> None:
        """target <- momentum · target + (1 - momentum) · online."""
        online = [parameter.detach() for module in (encoder, projector) for parameter in module.parameters()]
        get_ema_multi_avg_fn(momentum)(list(self.networks.parameters()), online, 0)


def momentum_at(step: int, total_steps: int, base: float, schedule: str) -> float:
    """``base`` (``constant``), or 1 - (1 - base) (cos(π k / K) + 1) / 2 (``cosine``; Grill et al. 2020, section 3.3).

    >>> [round(momentum_at(k, 4, 0.9, "cosine"), 3) for k in range(5)]
    [0.9, 0.915, 0.95, 0.985, 1.0]
    """
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * step / total_steps) + 1) / 2


def require_schedule(name: str) -> str:
    """Raises TrainingError."""
    if name not in SCHEDULES:
        raise TrainingError.naming("{target_schedule} {!r}: wanted one of {}", name, one_of(name, SCHEDULES))
    return name


def require_momentum(value: float) -> float:
    """Raises TrainingError."""
    if not 0 <= value <= 1:
        raise TrainingError.naming("{target_momentum} {}: wanted 0 to 1", value)
    return value


class Queue(nn.Module):
    """``size`` rows of unit length, random at first; new rows replace the oldest."""

    entries: Tensor  # (size, dim)
    position: Tensor  # (), int64: where the next row goes

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise TrainingError.naming("{queue_size} {}: wanted at least 1", size)
        self.register_buffer("entries", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.waiting: list[Tensor] = []

    def push(self, rows: Tensor) -> None:
        """Keep rows for the next ``advance``; nothing in evaluation mode. Shape: ``(B, dim)``."""
        if self.training:
            self.waiting.append(rows.detach())

    @torch.no_grad()
    def advance(self) -> None:
        """Enqueue what was pushed on all ranks, in the order of the ranks."""
        if not self.waiting:
            return
        rows, self.waiting = gather(torch.cat(self.waiting)), []
        size = len(self.entries)
        places = (self.position + torch.arange(len(rows), device=rows.device)) % size
        # If there are more rows than room, only the last ones stay.
        self.entries.index_copy_(0, places[-size:], rows[-size:].to(self.entries.dtype))
        self.position.add_(len(rows)).remainder_(size)
