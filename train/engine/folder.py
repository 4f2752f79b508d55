"""A training's folder: of which settings and images it is.

config.json · metrics.jsonl · curves.png · tensorboard/ · inventories/ (of image folders) · checkpoint.pt, and with
--keep-checkpoints older ones ·
encoder-best.safetensors · encoder.safetensors (last: its presence means finished)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genrep.datasets_manifest import MANIFEST_NAME
from genrep.encoders import ENCODER_FILE
from genrep.errors import ResumeError
from genrep.images.inventory import Inventory, changes_since, remember
from genrep.runs.checkpoints import CHECKPOINT_FILE
from genrep.runs.folder import CONFIG_FILE, differences, refuse_another
from genrep.untrusted import read_object

from .plan import Plan


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
    if found := differences(ours, theirs, ours):
        changed = [changes_since(out, _subject(k), one) for k, one in enumerate(inventories)]
        refuse_another(out, found, "".join(f"; of the images since: {said}" for said in changed if said))


def keep_inventories(out: Path, inventories: Sequence[Inventory]) -> None:
    """Keep a record of the image folders that a run is trained on, to tell later what has changed in them."""
    for k, one in enumerate(inventories):
        remember(out, _subject(k), one)


def _subject(number: int) -> str:
    return f"image folder {number}"


def is_finished(out: Path) -> bool:
    """Whether the run's last file is there."""
    return (out / ENCODER_FILE).exists()
