"""A first-in, first-out memory of embeddings, the same on all ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import TrainingError

from .ranks import gather


class Queue(nn.Module):
    """``size`` rows of unit length, random at first; new rows replace the oldest."""

    entries: Tensor  # (size, dim)
    position: Tensor  # (), int64: where the next row goes

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise TrainingError(f"--queue-size {size}: wanted at least 1")
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
