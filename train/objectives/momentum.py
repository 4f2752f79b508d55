"""What follows an encoder through its training: its moving average, and a memory of past embeddings, the same on all ranks."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genrep.errors import TrainingError

from .ranks import gather

SCHEDULES = ("constant", "cosine")


class Target(nn.Module):
    """A copy of an encoder and its projector, without gradients.

    It stays in training mode, as BYOL's and MoCo's do: its batch norm takes the batch's statistics. Only parameters
    follow; the running statistics are its own, and nothing reads them.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.networks = nn.Sequential(deepcopy(encoder), deepcopy(projector)).requires_grad_(False)

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
        # Of more rows than there is room for, the last ones stay.
        self.entries.index_copy_(0, places[-size:], rows[-size:].to(self.entries.dtype))
        self.position.add_(len(rows)).remainder_(size)
