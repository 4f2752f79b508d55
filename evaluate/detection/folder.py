"""The folder of a detection run inside ``--out``: its checkpoint, its settings and its metrics.

``detection-XXXXXXXX/`` with checkpoint.pt · config.json · metrics.jsonl; the digits are those of what the run is, so that two
runs never share one and the same command finds its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from genrep.files import digest_json, write_atomic, write_json
from genrep.runs.checkpoints import own_checkpoint, read_state, write_state
from genrep.runs.metrics import append_line, read_lines

CHECKPOINT_FILE, CONFIG_FILE, METRICS_FILE = "checkpoint.pt", "config.json", "metrics.jsonl"


def run_folder(out: Path, identity: dict[str, Any]) -> Path:
    """The folder of the run with this identity."""
    return out / f"detection-{digest_json(identity)[:8]}"


def prepare(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder and write down what the run is."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG_FILE, {**identity, "versions": {"torch": torch.__version__}})


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; ``torch.load(weights_only=True)`` reads it."""
    write_state(folder / CHECKPOINT_FILE, state)


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the checkpoint if there is one. Raises ResumeError if it is damaged."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    with own_checkpoint(path):
        state: dict[str, Any] = read_state(path, device)
        state["trainer"]["step"], state["seconds"]
    return state


class Metrics:
    """metrics.jsonl: the means over the steps since the last line."""

    def __init__(self, folder: Path, *, after_step: int) -> None:
        """Keep the lines up to ``after_step``: a resumed run repeats what came after its checkpoint."""
        self.path = folder / METRICS_FILE
        kept = [line for line in read_lines(self.path) if line["step"] <= after_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.collected: list[dict[str, float]] = []

    def add(self, values: dict[str, float]) -> None:
        """Remember a step."""
        self.collected.append(values)

    def flush(self, step: int, seconds: float) -> None:
        """Write a line."""
        if not self.collected:
            return
        means = {name: sum(v[name] for v in self.collected) / len(self.collected) for name in self.collected[0]}
        append_line(self.path, {"step": step, **means, "seconds": round(seconds, 1)})
        self.collected = []
