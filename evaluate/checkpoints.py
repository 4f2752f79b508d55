"""What an interrupted training goes on from: a file named after its settings, whole or absent, gone when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from genrep.files import digest_json
from genrep.progress import note
from genrep.runs.checkpoints import FAULTS, read_state, reason_of, write_state

FOLDER = "checkpoints"


class Checkpoint:
    """The state after an epoch, under ``out/checkpoints/``. Other settings have another file."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.path = out / FOLDER / f"{digest_json(dict(settings))[:16]}.pt"

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep tensors, numbers, text and containers of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_state(self.path, state)

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The state, or None if there is none; a damaged one is told of and not used."""
        if not self.path.exists():
            return None
        try:
            state = read_state(self.path, device)
            if isinstance(state, dict) and isinstance(state.get("epoch"), int):
                return state
            reason = "not a checkpoint"
        except FAULTS as error:
            reason = reason_of(error)
        note(f"{self.path}: cannot be read ({reason}); beginning anew")
        return None

    def remove(self) -> None:
        """Once the result is written."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
