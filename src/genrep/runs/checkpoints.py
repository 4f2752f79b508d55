"""Checkpoints: files that are whole or absent, that run no code when they are read, of the same settings or refused."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import ResumeError
from ..files import digest_json, write_atomic
from ..progress import note
from ..untrusted import CONTENT_FAULTS, one_line, open_regular, shown
from .folder import differences, refuse_another

CHECKPOINT_FILE = "checkpoint.pt"
PASSING_FOLDER = "checkpoints"
FORMAT = "run/1"  # raised where a state's parts change: an older file is then refused in one line
# Errors that a damaged or foreign file raises while it is read or its content is checked.
FAULTS = (OSError, *CONTENT_FAULTS, pickle.UnpicklingError)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and containers of them, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(path, buffer.getvalue())


def read_state(path: Path, device: torch.device) -> Any:
    """Read a state of ``write_state``. Raises one of ``FAULTS``, or ResumeError if it is not a regular file."""
    with open(open_regular(path, ResumeError, follow=True), "rb") as file:
        return torch.load(file, map_location=device, weights_only=True)


def reason_of(fault: Exception) -> str:
    """One line about one of ``FAULTS``."""
    return one_line((str(fault).strip() or type(fault).__name__).splitlines()[0].partition(". ")[0])


@contextmanager
def _own(path: Path, way: str) -> Iterator[None]:
    """Turn failures in the block into a ResumeError about the checkpoint, with the ``way`` out."""
    try:
        yield
    except FAULTS as error:
        raise ResumeError(f"{path}: cannot be read ({reason_of(error)}); {way}") from error


class Checkpoints:
    """The states of a run: the newest is checkpoint.pt; of the ones before, ``keep - 1`` stay as checkpoint-<step>.pt.

    A ``passing`` run, whose result another file holds, has one state under checkpoints/, named after its settings.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], *, keep: int = 1, passing: bool = False) -> None:
        """``identity``: the settings that a state belongs to, as JSON has them."""
        self.out, self.path, self.keep, self.passing = out, out / CHECKPOINT_FILE, keep, passing
        if passing:
            self.path = out / PASSING_FOLDER / f"{digest_json(dict(identity))[:16]}.pt"
        self.identity = json.dumps(identity, sort_keys=True, default=str)

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state after a step, whole or not at all; ``torch.load(weights_only=True)`` reads it."""
        whole = {"format": FORMAT, "identity": self.identity, **state}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.keep > 1:
            # Under its own name too, so that the next one can take checkpoint.pt from it.
            own = self.out / f"checkpoint-{step:08d}.pt"
            write_state(own, whole)
            link = self.path.with_name(f".{self.path.name}.link")
            link.unlink(missing_ok=True)
            os.link(own, link)
            os.replace(link, self.path)
        else:
            write_state(self.path, whole)
        for old in self._numbered()[: -self.keep if self.keep > 1 else None]:
            old.unlink()

    @contextmanager
    def open(self, device: torch.device) -> Iterator[dict[str, Any] | None]:
        """The newest state, or None. Failures in the block are reported as the file's.

        A damaged state of a passing run is reported and not used: the run computes it again without being asked.

        Raises:
            ResumeError: the state has other settings (named) or another version, or cannot be read. Says the way out.
        """
        if not self.path.exists():
            yield None
            return
        older = self._numbered()[:-1]
        way = f"copy {older[-1].name} over it" if older else "remove it to start over"
        with _own(self.path, way):
            try:
                state: dict[str, Any] = read_state(self.path, device)
            except FAULTS as error:
                if not self.passing:
                    raise
                note(f"{self.path}: cannot be read ({reason_of(error)}); starting over")
                yield None
                return
            if (found := state.get("format")) != FORMAT:
                told = f"of format {shown(found)}, this version reads {FORMAT!r}"
                raise ResumeError(f"{self.path}: cannot be read ({told}); {way}")
            refuse_another(self.out, differences(json.loads(self.identity), json.loads(state["identity"])))
            yield state

    def remove(self) -> None:
        """Remove a passing run's state, once its result is written."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def _numbered(self) -> list[Path]:
        return sorted(self.out.glob("checkpoint-*.pt"))
