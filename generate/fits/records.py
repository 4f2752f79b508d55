"""What a fit tells while it goes: times on the device, and metrics.jsonl."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from genrep.files import write_atomic
from genrep.runs.lines import append_line, read_lines

METRICS_FILE = "metrics.jsonl"


class Stopwatch:
    """Seconds spent in named sections. On a GPU they are measured by events, which are read only in ``collect``."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.totals: dict[str, float] = {}
        self.pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time inside towards ``name``."""
        if not self.on_gpu:
            started = time.perf_counter()
            yield
            self.totals[name] = self.totals.get(name, 0.0) + time.perf_counter() - started
            return
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        yield
        last.record()
        self.pending.append((name, first, last))

    def collect(self) -> dict[str, float]:
        """Seconds of each section since the last call; waits for the device."""
        for name, first, last in self.pending:
            last.synchronize()
            self.totals[name] = self.totals.get(name, 0.0) + first.elapsed_time(last) / 1000
        totals, self.totals, self.pending = self.totals, {}, []
        return totals


class Metrics:
    """metrics.jsonl: a JSON object per line, whole lines only."""

    def __init__(self, out: Path, *, after_step: int) -> None:
        """Keep the lines up to ``after_step``: a resumed run repeats what came after its checkpoint."""
        self.path = out / METRICS_FILE
        kept = [line for line in read_lines(self.path) if line["step"] <= after_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        append_line(self.path, line)
