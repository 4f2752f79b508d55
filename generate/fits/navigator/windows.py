"""Means over windows of steps, and the stopping rule that looks at them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.sanity import diverged

WAY = "try a lower --lr-f or --lr-walk"  # out of a training that has diverged
FALLEN = 0.95  # of the loss to stop at: a window below this counts as the first fall, noise on the way down does not


class Window:
    """Sums over the steps since the last line of metrics, in float64 on the device: a step never waits for them."""

    NAMES = ("loss_f", "loss_T", "shift_mean", "shift_square", "distance_mean")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.farthest = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = 0

    @torch.no_grad()
    def add(self, loss_f: Tensor, loss_t: Tensor, shift: Tensor) -> None:
        """Remember a step. Shapes: ``(), (), (B, F)``."""
        shift = shift.double()
        distance = torch.linalg.vector_norm(shift, dim=1)
        self.sums += torch.stack(
            [loss_f.double(), loss_t.double(), shift.mean(), shift.square().mean(), distance.mean()]
        )
        self.farthest = torch.maximum(self.farthest, distance.max())
        self.steps += 1

    def means(self, out: Path, step: int) -> dict[str, float]:
        """Means over the window. Raises TrainingError if a loss is not finite."""
        values = dict(zip(self.NAMES, (self.sums / self.steps).tolist()))
        for name in ("loss_f", "loss_T"):
            if not math.isfinite(values[name]):
                raise diverged(out, f"at step {step:,} {name} is {values[name]}", WAY)
        variance = values.pop("shift_square") - values["shift_mean"] ** 2
        return {**values, "shift_std": max(variance, 0.0) ** 0.5, "distance_max": float(self.farthest)}

    def clear(self) -> None:
        """Begin the next window."""
        self.sums, self.farthest, self.steps = torch.zeros_like(self.sums), torch.zeros_like(self.farthest), 0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint in the middle of a window."""
        return {"sums": self.sums, "farthest": self.farthest, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.sums, self.farthest, self.steps = state["sums"], state["farthest"], state["steps"]


class StopRule:
    """HL's choice of a checkpoint: f's loss first falls, as f learns, then rises, as T finds what f cannot follow.

    Met by the first window whose mean loss is at least ``value`` after one below .95 of it.
    """

    def __init__(self) -> None:
        self.lowest = self.last = math.inf

    def add(self, loss_f: float) -> None:
        """Remember a window."""
        self.lowest, self.last = min(self.lowest, loss_f), loss_f

    def met(self, value: float | None) -> bool:
        """Whether a run that stops at ``value`` stops here."""
        return value is not None and self.lowest < FALLEN * value <= value <= self.last < math.inf
