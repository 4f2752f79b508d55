"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then half a cosine from ``peak`` down to ``peak · floor``.

    ``cosine`` moves at every step. ``cosine-by-epoch`` is the rule of GenRep and COP-Gen: one rate for each epoch
    e = 1 … E, ``floor + (peak - floor) (1 + cos(π e / E)) / 2``, so that the first epoch is a little below the peak already; a
    warm-up then ends at the rate of the epoch that it ends in.
    """

    kind: str
    peak: float
    floor: float  # part of the peak
    warmup_steps: int
    total_steps: int
    steps_per_epoch: int

    def rate(self, step: int) -> float:
        """The rate of the update after ``step`` updates.

        >>> s = Schedule(kind="cosine", peak=1.0, floor=0.0, warmup_steps=2, total_steps=6, steps_per_epoch=3)
        >>> [round(s.rate(step), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup_steps:
            return self._cosine(self.warmup_steps) * (step + 1) / self.warmup_steps
        return self._cosine(step)

    def _cosine(self, step: int) -> float:
        if self.kind == "cosine-by-epoch":
            progress = (step // self.steps_per_epoch + 1) / math.ceil(self.total_steps / self.steps_per_epoch)
        else:
            progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        low = self.peak * self.floor
        return low + (self.peak - low) * (1 + math.cos(math.pi * progress)) / 2
