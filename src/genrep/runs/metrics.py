"""metrics.jsonl: one JSON object per line. Lines are appended whole; a line that a crash cut off is left out.

This module has the one writer, the one reader, and the means of a line. Reading lines does not import torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..files import faults_named, write_atomic
from ..untrusted import read_bounded

if TYPE_CHECKING:
    from torch import Tensor

    from .processes import Processes

METRICS_FILE = "metrics.jsonl"
MAX_BYTES = 1 << 30
LARGEST = "_max"  # at the end of a measurement's name: a line holds the largest of the steps, not the mean
Line = dict[str, Any]


def read_lines(path: Path, by: str = "step") -> list[Line]:
    """The whole lines that count ``by`` this key; none if the file is missing. Raises DataError if it is not a regular file."""
    if not path.exists():
        return []
    lines = []
    for text in read_bounded(path, MAX_BYTES, DataError, follow=True).splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get(by), int):
            lines.append(line)
    return lines


class Metrics:
    """The writer of a run's lines."""

    def __init__(self, out: Path, *, after: int, by: str = "step") -> None:
        """Keep the lines up to ``after``: a resumed run repeats what came after its checkpoint."""
        self.path = out / METRICS_FILE
        kept = [line for line in read_lines(self.path, by) if line[by] <= after]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, line: Line) -> None:
        """Append a line. Values that are not finite are written as text, since JSON has none. An OSError names the file."""
        told = {name: value if _has_form(value) else str(value) for name, value in line.items()}
        with faults_named(self.path), open(self.path, "a") as file:
            file.write(json.dumps(told) + "\n")


def _has_form(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


class Window:
    """The measurements since the last line, summed in float64 on the device, so that a step never waits for them.

    Each step's numbers are the means over the processes, which a checkpoint by the first one alone can then hold.
    """

    def __init__(self, place: Processes) -> None:
        self.place = place
        self.names: tuple[str, ...] = ()
        self.rows: list[Tensor] = []  # of each step, (K,)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Remember a step: scalars, of the same names in every step; none where a run measures otherwise."""
        import torch

        self.names = tuple(values)
        numbers = [value.detach() if isinstance(value, torch.Tensor) else value for value in values.values()]
        if any(isinstance(value, torch.Tensor) for value in numbers):
            device = self.place.device
            row = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in numbers])
        else:
            row = torch.tensor(numbers, dtype=torch.float64, device=self.place.device)
        self.rows.append(self.place.mean(row))

    def means(self) -> dict[str, float]:
        """The means over the steps (of names that end in ``_max`` the largest); waits for the device."""
        import torch

        table = torch.stack(self.rows)
        largest = torch.tensor([name.endswith(LARGEST) for name in self.names], dtype=torch.bool, device=table.device)
        return dict(zip(self.names, torch.where(largest, table.amax(dim=0), table.mean(dim=0)).tolist()))

    def clear(self) -> None:
        """Begin the next window."""
        self.rows = []

    def state(self) -> list[dict[str, float]]:
        """The steps, for a checkpoint between two lines."""
        import torch

        table = torch.stack(self.rows).tolist() if self.rows else []
        return [dict(zip(self.names, row)) for row in table]

    def restore(self, state: list[dict[str, float]]) -> None:
        """Go on from ``state``, with any number of processes, where the steps to come are."""
        import torch

        self.names = tuple(state[0]) if state else ()
        device = self.place.device
        self.rows = [torch.tensor(list(step.values()), dtype=torch.float64, device=device) for step in state]
