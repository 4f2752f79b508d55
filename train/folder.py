"""A run's folder: locked while a process works in it, and refusing to mix two runs.

config.json · metrics.jsonl · tensorboard/ · checkpoint.pt · encoder.safetensors (last: its presence means finished)
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from genrep.datasets_manifest import MANIFEST_NAME
from genrep.encoders import ENCODER_FILE
from genrep.errors import ResumeError
from genrep.files import write_atomic, write_json

from .plan import Plan

CHECKPOINT_FILE, CONFIG_FILE = "checkpoint.pt", "config.json"


def check_same_run(out: Path, plan: Plan) -> None:
    """Raises ResumeError, naming what differs, if the folder belongs to a run with other settings."""
    path = out / CONFIG_FILE
    if not path.exists():
        for name in (MANIFEST_NAME, ENCODER_FILE, CHECKPOINT_FILE):
            if (out / name).exists():
                raise ResumeError(f"--out {out}: holds {name} but no {CONFIG_FILE}; wanted a new folder or a run's own")
        return
    try:
        theirs = json.loads(path.read_text())
    except ValueError as error:
        raise ResumeError(f"{path}: not JSON ({error}); give another --out") from error
    ours = plan.identity()
    names = [name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name]]
    if names:
        there = theirs if isinstance(theirs, dict) else {}
        differences = ", ".join(f"{name} {there.get(name)!r} there, {ours[name]!r} asked for" for name in names)
        raise ResumeError(f"--out {out}: holds another run ({differences})")


def is_finished(out: Path) -> bool:
    """Whether the run's last file is there."""
    return (out / ENCODER_FILE).exists()


def write_config(out: Path, plan: Plan) -> None:
    """Write the resolved settings, and the versions that they ran under."""
    write_json(
        out / CONFIG_FILE,
        {**plan.to_json(), "versions": {"torch": torch.__version__}, "threads": torch.get_num_threads()},
    )


def save_checkpoint(out: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; ``torch.load(weights_only=True)`` reads it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(out / CHECKPOINT_FILE, buffer.getvalue())


def load_checkpoint(out: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the checkpoint if there is one. Raises ResumeError if it is damaged."""
    path = out / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        state["trainer"], state["loader"], state["seconds"], state["last_loss"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResumeError(f"{path}: cannot be read ({reason}); remove it to begin anew") from error
    return state
