"""A run's folder: locked while a process works in it, and refusing to mix two runs.

config.json · metrics.jsonl · curves.png · tensorboard/ · inventories/ (of image folders) · checkpoint.pt, and with
--keep-checkpoints older ones ·
encoder-best.safetensors · encoder.safetensors (last: its presence means finished)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genrep.datasets_manifest import MANIFEST_NAME
from genrep.encoders import ENCODER_FILE
from genrep.errors import ResumeError
from genrep.files import write_json
from genrep.images.inventory import Inventory, changes_since, remember
from genrep.runs.checkpoints import own_checkpoint, read_state, write_state
from genrep.untrusted import read_object, shown

from .plan import Plan

CHECKPOINT_FILE, CONFIG_FILE = "checkpoint.pt", "config.json"
BEST_FILE = "encoder-best.safetensors"
STATE = ("trainer", "loader", "records", "seconds", "last_loss", "best")  # of a checkpoint


def check_same_run(out: Path, plan: Plan, inventories: Sequence[Inventory] = ()) -> None:
    """Raises ResumeError, naming what differs, if the folder belongs to a run with other settings or images.

    ``inventories``: of the image folders that are trained on, in order; see ``keep_inventories``.
    """
    path = out / CONFIG_FILE
    if not path.exists():
        for name in (MANIFEST_NAME, ENCODER_FILE, CHECKPOINT_FILE):
            if (out / name).exists():
                raise ResumeError(f"--out {out}: holds {name} but no {CONFIG_FILE}; wanted a new folder or a run's own")
        return
    theirs, ours = read_object(path, ResumeError), plan.identity()
    if names := [name for name in ours if theirs.get(name) != ours[name]]:
        differences = ", ".join(f"{name} {shown(theirs.get(name))} there, {ours[name]!r} asked for" for name in names)
        changed = [changes_since(out, _subject(k), one) for k, one in enumerate(inventories)]
        told = "".join(f"; of the images since: {said}" for said in changed if said)
        raise ResumeError(f"--out {out}: holds another run ({differences}{told})")


def keep_inventories(out: Path, inventories: Sequence[Inventory]) -> None:
    """Keep a record of the image folders that a run is trained on, to tell later what has changed in them."""
    for k, one in enumerate(inventories):
        remember(out, _subject(k), one)


def _subject(number: int) -> str:
    return f"image folder {number}"


def is_finished(out: Path) -> bool:
    """Whether the run's last file is there."""
    return (out / ENCODER_FILE).exists()


def write_config(out: Path, plan: Plan) -> None:
    """Write the resolved settings, and the versions that they ran under."""
    write_json(
        out / CONFIG_FILE,
        {**plan.to_json(), "versions": {"torch": torch.__version__}, "threads": torch.get_num_threads()},
    )


def save_checkpoint(out: Path, state: dict[str, Any], *, keep: int) -> None:
    """Write a checkpoint, whole or not at all; ``torch.load(weights_only=True)`` reads it.

    The newest is checkpoint.pt; of the ones before, ``keep - 1`` stay as checkpoint-<step>.pt.
    """
    path = out / CHECKPOINT_FILE
    if keep > 1:
        # The new one is written under its own name too, so that the next one can take checkpoint.pt from it.
        own = out / f"checkpoint-{state['trainer']['step']:08d}.pt"
        write_state(own, state)
        link = path.with_name(f".{path.name}.link")
        link.unlink(missing_ok=True)
        os.link(own, link)
        os.replace(link, path)
    else:
        write_state(path, state)
    for old in sorted(out.glob("checkpoint-*.pt"))[: -keep if keep > 1 else None]:
        old.unlink()


def load_checkpoint(out: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the newest checkpoint if there is one. Raises ResumeError if it is damaged."""
    path = out / CHECKPOINT_FILE
    if not path.exists():
        return None
    older = sorted(out.glob("checkpoint-*.pt"))[:-1]
    with own_checkpoint(path, f"copy {older[-1].name} over it" if older else "remove it to begin anew"):
        state: dict[str, Any] = read_state(path, device)
        missing = [name for name in STATE if name not in state]
        if missing:
            raise KeyError(missing[0])
    return state
