"""The checkpoint of a fit: whole or absent, of the same settings or refused."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from genrep.errors import ResumeError
from genrep.runs.checkpoints import own_checkpoint, read_state, write_state

from .settings import differences

CHECKPOINT_FILE = "checkpoint.pt"


def write_checkpoint(out: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, text and containers of them) beside the settings that it belongs to."""
    write_state(out / CHECKPOINT_FILE, {"identity": json.dumps(identity, sort_keys=True), **state})


@contextmanager
def open_checkpoint(out: Path, identity: Mapping[str, Any], device: torch.device) -> Iterator[dict[str, Any] | None]:
    """The state in a run's folder, None if there is none. What goes wrong in the block is the checkpoint's fault.

    Raises:
        ResumeError: it is of other settings (which), or cannot be read.
    """
    path = out / CHECKPOINT_FILE
    if not path.exists():
        yield None
        return
    with own_checkpoint(path):
        state: dict[str, Any] = read_state(path, device)
        if found := differences(identity, json.loads(state["identity"])):
            raise ResumeError(f"--out {out}: holds another run ({found})")
        yield state


def made_with(device: torch.device) -> dict[str, Any]:
    """On what a run runs."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
