"""What a run tells while it goes: metrics.jsonl, TensorBoard where it is installed, and the alarms that end it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.errors import TrainingError
from genrep.files import write_atomic
from genrep.progress import note
from genrep.runs.metrics import append_line, read_lines
from genrep.runs.processes import Processes
from genrep.runs.sanity import diverged

from ..objectives import Output
from ..objectives.measures import measures

METRICS_FILE = "metrics.jsonl"
Line = dict[str, Any]


class Records:
    """Collects steps and writes a line per ``log_every`` of them; append-only, whole lines, by the first process alone."""

    def __init__(self, out: Path, processes: Processes, *, after_step: int) -> None:
        """Keep the records up to ``after_step``: a resumed run repeats what came after its checkpoint."""
        self.path, self.processes = out / METRICS_FILE, processes
        self.board = None
        if processes.first:
            kept = [line for line in read_lines(self.path) if line["step"] <= after_step]
            write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
            self.board = _tensorboard(out / "tensorboard", after_step)
        self.values: list[dict[str, Tensor]] = []  # of each step since the last line, over all processes; on the device
        self.embeddings: Tensor | None = None
        self.images, self.waited, self.since = 0, 0.0, time.monotonic()

    def add(self, output: Output, images: int, waited: float) -> None:
        """Remember a step: the means over the processes, which a checkpoint by the first one alone can then hold."""
        values = {"loss": output.loss, **output.metrics}
        means = self.processes.mean(torch.stack([value.detach().double() for value in values.values()]))
        self.values.append(dict(zip(values, means.unbind())))
        self.embeddings = output.embeddings
        self.images += images
        self.waited += waited

    def flush(self, step: int, epoch: int, lr: float) -> Line | None:
        """Write the means since the last line, over all processes; returns the line. The embeddings' are the last step's."""
        if not self.values:
            return None
        assert self.embeddings is not None
        spread = {name: value.double() for name, value in measures(self.embeddings).items()}
        means = {name: torch.stack([step[name] for step in self.values]).mean() for name in self.values[0]}
        means |= dict(zip(spread, self.processes.mean(torch.stack(list(spread.values()))).unbind()))
        numbers = dict(zip(means, torch.stack(list(means.values())).tolist()))
        seconds = max(time.monotonic() - self.since, 1e-9)
        line = {
            "step": step,
            "epoch": epoch,
            "lr": lr,
            **numbers,
            "images_per_s": round(self.images / seconds, 1),
            "data_wait": round(self.waited / seconds, 4),  # fraction of the time
        }
        self.write(line)
        self.values = []
        self.images, self.waited, self.since = 0, 0.0, time.monotonic()
        return line

    def write(self, line: Line) -> None:
        """Append a line: ``step`` and numbers."""
        if not self.processes.first:
            return
        finite = {
            name: value if not isinstance(value, float) or math.isfinite(value) else str(value)
            for name, value in line.items()
        }
        append_line(self.path, finite)
        if self.board is not None:
            for name, value in line.items():
                if name not in ("step", "epoch"):
                    self.board.add_scalar(name, float(value), line["step"])

    def state(self) -> list[dict[str, float]]:
        """The steps since the last line, for a checkpoint between two lines."""
        return [{name: float(value) for name, value in step.items()} for step in self.values]

    def restore(self, state: list[dict[str, float]]) -> None:
        """Go on from ``state``, with any number of processes."""
        device = self.processes.device  # that of the steps to come
        self.values = [
            {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in step.items()}
            for step in state
        ]

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self.board is not None:
            self.board.close()


def _tensorboard(folder: Path, after_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        note("TensorBoard is not installed: the curves are in metrics.jsonl only; pip install 'genrep[tensorboard]'")
        return None
    return SummaryWriter(folder, purge_step=after_step + 1)


class Alarms:
    """Ends a run that cannot become anything."""

    def __init__(self, out: Path, collapse_std: float, collapse_steps: int, *, single_view: bool) -> None:
        self.out = out
        self.collapse_std, self.collapse_steps = collapse_std, collapse_steps
        self.single_view = single_view  # features with a target of their own do not collapse
        self.healthy_step: int | None = None  # the last one whose embeddings were spread out

    def check(self, line: Line) -> None:
        """Look at a line of metrics. Raises TrainingError."""
        step, loss, spread = line["step"], float(line["loss"]), float(line["embedding_std"])
        if not math.isfinite(loss):
            raise diverged(self.out, f"loss is {loss} at step {step}, lr {line['lr']:.3g}", "try a lower --lr")
        if self.single_view:
            return
        if self.healthy_step is None or spread >= self.collapse_std:
            self.healthy_step = step
        elif step - self.healthy_step >= self.collapse_steps:
            raise TrainingError(
                f"--out {self.out}: embeddings have collapsed: their relative std is {spread:.4f} at step "
                f"{step} and has been below {self.collapse_std} for {step - self.healthy_step} steps (1 = spread evenly)"
            )
