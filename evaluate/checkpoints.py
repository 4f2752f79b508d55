"""What an interrupted training goes on from: a file named after its settings, whole or absent, gone when it is done."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from genrep.files import digest_json, write_atomic

FOLDER = "checkpoints"
_FAULTS = (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError)


class Checkpoint:
    """The state after an epoch, under ``out/checkpoints/``. Other settings have another file."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.path = out / FOLDER / f"{digest_json(dict(settings))[:16]}.pt"

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep tensors, numbers, text and containers of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomic(self.path, buffer.getvalue())

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The state, or None if there is none; a damaged one is told of and not used."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            if isinstance(state, dict) and isinstance(state.get("epoch"), int):
                return state
            reason = "not a checkpoint"
        except _FAULTS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{self.path}: cannot be read ({reason}); beginning anew", file=sys.stderr)
        return None

    def remove(self) -> None:
        """Once the result is written."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
