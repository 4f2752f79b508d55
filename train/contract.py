"""The format of a run's folder for its readers: ``config.json`` and ``metrics.jsonl``, a contract with a version.

``config.json`` is an object: the resolved settings by their names, facts of samples and machine, and ``version``, the integer
1; if it is missing, it is 1. ``metrics.jsonl`` has an object with ``step`` per line; the last line may be cut off. Reports
read both by ``read_run`` and know no more of a run. Importing this module does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import DataError
from genrep.runs.metrics import MAX_BYTES, METRICS_FILE, read_lines
from genrep.untrusted import content_faults, read_bounded, shown

RUN_VERSION = 1
VERSION = "version"
CONFIG_FILE = "config.json"
# Settings that a resumed run may change: places of files, speed of reading, intervals of records.
FREE = (
    *(VERSION, "data", "out", "weights", "device", "compile", "workers", "log_every"),
    *("prompts", "anchors", "root", "download"),  # of which the samples' identity tells the content
    *("checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "collapse_std", "collapse_steps", "processes"),
    *("knn_every", "knn_data", "knn_root"),
)
# What else makes no other method of training: how stored samples are read, what a run was on, and what only follows from other
# settings; and the seed, of which a method has several.
CIRCUMSTANCES = ("shuffle_window", "partial", "threads", "versions", "dataset_id", "dropped_per_epoch", "seed")


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A training, as its folder tells of it."""

    settings: Mapping[str, Any] | None  # None: the folder is no training's
    lines: tuple[Mapping[str, Any], ...]  # its curves, each line with a ``step``

    @property
    def method(self) -> dict[str, Any]:
        """The settings that determine a run, except its samples and its seed."""
        return {name: item for name, item in (self.settings or {}).items() if name not in (*FREE, *CIRCUMSTANCES)}


def read_run(folder: Path) -> TrainedRun:
    """Settings and curves of a run's folder.

    Raises:
        DataError: one of the files is not what its name says, or of a version that this does not know.
    """
    path = folder / CONFIG_FILE
    settings = None
    if path.exists():
        settings = _object(path)
        if settings.get(VERSION, RUN_VERSION) != RUN_VERSION:
            raise DataError(
                f"{path}: version {shown(settings[VERSION])}, wanted {RUN_VERSION}; a newer genrep wrote it: upgrade to read it"
            )
    return TrainedRun(settings=settings, lines=tuple(_lines(folder / METRICS_FILE)))


def _object(path: Path) -> dict[str, Any]:
    content = read_bounded(path, MAX_BYTES, DataError, follow=True)
    with content_faults(f"{path}: not JSON", DataError):
        value = json.loads(content)
    if not isinstance(value, dict):
        raise DataError(f"{path}: wanted a JSON object, found {type(value).__name__}")
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = [line for line in read_lines(path) if not isinstance(line["step"], bool)]
    if not lines and path.exists() and path.read_bytes().strip():
        raise DataError(f"{path}: no line with a step; wanted a run's metrics")
    return lines
