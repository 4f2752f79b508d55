"""What a run tells while it goes: metrics.jsonl, TensorBoard where it is installed, and the alarms that end it."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.errors import TrainingError
from genrep.files import write_atomic

METRICS_FILE = "metrics.jsonl"


class Records:
    """Collects steps and writes a line per ``log_every`` of them; append-only, whole lines."""

    def __init__(self, out: Path, *, after_step: int) -> None:
        """Keep the records up to ``after_step``: a resumed run repeats what came after its checkpoint."""
        self.path = out / METRICS_FILE
        kept = [line for line in _lines(self.path) if line["step"] <= after_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.board = _tensorboard(out / "tensorboard", after_step)
        self.losses: list[Tensor] = []
        self.spreads: list[Tensor] = []
        self.images, self.waited, self.since = 0, 0.0, time.monotonic()

    def add(self, loss: Tensor, spread: Tensor, images: int, waited: float) -> None:
        """Remember a step; its numbers stay on the device."""
        self.losses.append(loss)
        self.spreads.append(spread)
        self.images += images
        self.waited += waited

    def flush(self, step: int, epoch: int, lr: float) -> dict[str, Any] | None:
        """Write the mean of the steps since the last line; returns it."""
        if not self.losses:
            return None
        loss = float(torch.stack(self.losses).double().mean())
        spread = float(torch.stack(self.spreads).double().mean())
        seconds = max(time.monotonic() - self.since, 1e-9)
        line = {
            "step": step,
            "epoch": epoch,
            "loss": loss if math.isfinite(loss) else str(loss),
            "lr": lr,
            "embedding_std": spread if math.isfinite(spread) else str(spread),
            "images_per_s": round(self.images / seconds, 1),
            "data_wait": round(self.waited / seconds, 4),  # fraction of the time
        }
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name in ("loss", "lr", "embedding_std", "images_per_s", "data_wait"):
                self.board.add_scalar(name, float(line[name]), step)
        self.losses, self.spreads = [], []
        self.images, self.waited, self.since = 0, 0.0, time.monotonic()
        return line

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self.board is not None:
            self.board.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; what a crash cut off in the middle is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _tensorboard(folder: Path, after_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed: the curves are in metrics.jsonl only", file=sys.stderr)
        return None
    return SummaryWriter(folder, purge_step=after_step + 1)


class Alarms:
    """Ends a run that cannot become anything."""

    def __init__(self, collapse_std: float, collapse_steps: int) -> None:
        self.collapse_std, self.collapse_steps = collapse_std, collapse_steps
        self.healthy_step: int | None = None  # the last one whose embeddings were spread out

    def check(self, line: dict[str, Any]) -> None:
        """Look at a line of metrics. Raises TrainingError."""
        step, loss, spread = line["step"], float(line["loss"]), float(line["embedding_std"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"loss is {loss} at step {step}, lr {line['lr']:.3g}: wanted a finite number; try a lower --lr"
            )
        if self.healthy_step is None or spread >= self.collapse_std:
            self.healthy_step = step
        elif step - self.healthy_step >= self.collapse_steps:
            raise TrainingError(
                f"embeddings have collapsed: their relative std is {spread:.4f} at step {step} and has been below "
                f"{self.collapse_std} for {step - self.healthy_step} steps (1 = spread evenly)"
            )
