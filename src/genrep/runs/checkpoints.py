"""Checkpoints: files that are whole or absent, and that run no code when they are read."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import ResumeError
from ..files import write_atomic
from ..untrusted import CONTENT_FAULTS, one_line, open_regular

# What a damaged or foreign file raises, while it is read or while its content is looked at.
FAULTS = (OSError, *CONTENT_FAULTS, pickle.UnpicklingError)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and containers of them, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(path, buffer.getvalue())


def read_state(path: Path, device: torch.device) -> Any:
    """What ``write_state`` wrote. Raises one of ``FAULTS``, or ResumeError for what is no regular file."""
    with open(open_regular(path, ResumeError, follow=True), "rb") as file:
        return torch.load(file, map_location=device, weights_only=True)


def reason_of(fault: Exception) -> str:
    """One line about one of ``FAULTS``."""
    return one_line((str(fault).strip() or type(fault).__name__).splitlines()[0].partition(". ")[0])


@contextmanager
def own_checkpoint(path: Path, way: str = "remove it to begin anew") -> Iterator[None]:
    """What goes wrong in the block is the checkpoint's fault. Raises ResumeError, with the ``way`` out."""
    try:
        yield
    except FAULTS as error:
        raise ResumeError(f"{path}: cannot be read ({reason_of(error)}); {way}") from error
