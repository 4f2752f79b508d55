"""What a training tells beside metrics.jsonl: TensorBoard where it is installed, and the alarm of a collapse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from genrep.errors import TrainingError
from genrep.progress import note
from genrep.runs.metrics import Line
from genrep.runs.sanity import diverged


class Board:
    """TensorBoard's file; without TensorBoard a line on stderr says so."""

    def __init__(self, folder: Path, after_step: int) -> None:
        """What is there of later steps is repeated, and hidden."""
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            note(
                "TensorBoard is not installed: the curves are in metrics.jsonl only; pip install 'genrep[tensorboard]'"
            )
            return
        self.writer = SummaryWriter(folder, purge_step=after_step + 1)

    def write(self, line: Line) -> None:
        """A line of metrics."""
        if self.writer is not None:
            for name, value in line.items():
                if name not in ("step", "epoch"):
                    self.writer.add_scalar(name, float(value), line["step"])

    def close(self) -> None:
        """Flush the file."""
        if self.writer is not None:
            self.writer.close()


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
