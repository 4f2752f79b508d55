"""A dataset folder while it is being built: who may write, what is done, what a killed run left."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from genrep.datasets_manifest.manifest import MANIFEST_NAME, read_shard_record, shard_name, shard_record_name
from genrep.datasets_manifest.manifest import Shard as ShardRecord
from genrep.errors import DatasetError, ResumeError
from genrep.files import lock, write_json

from .plan import Plan

RECIPE_NAME = "recipe.json"
SHEET_NAME = "contact-sheet.png"
MAX_NAMED_DIFFERENCES = 5


class DatasetFolder:
    """A folder that this process holds locked (``genrep.files.locked_folder``, which gives the descriptor)."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    def share(self) -> None:
        """Let worker processes hold the lock too: a killed run's last workers keep a new run out until they are gone."""
        lock(self.descriptor, fcntl.LOCK_SH, self.path)

    @property
    def manifest_path(self) -> Path:
        """Where the finished dataset's manifest lies."""
        return self.path / MANIFEST_NAME

    def remove_leftovers(self) -> None:
        """Remove what a killed run left under temporary names."""
        for path in self.path.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def claim(self, plan: Plan) -> None:
        """Make the folder this recipe's, or find that it is.

        Raises:
            ResumeError: it holds another recipe's shards, or things that are no dataset.
        """
        path = self.path / RECIPE_NAME
        if path.exists():
            try:
                found = json.loads(path.read_bytes())
            except ValueError:
                raise ResumeError(f"{path}: not JSON; move the folder away or give another --out") from None
            if found != plan.recipe:
                raise ResumeError(f"--out {self.path}: holds another dataset ({differences(found, plan.recipe)})")
            return
        others = sorted(entry.name for entry in self.path.iterdir())
        if others:
            raise ResumeError(
                f"--out {self.path}: not empty and no dataset of genrep (found {others[0]}); give an empty folder"
            )
        write_json(path, plan.recipe)

    def done(self, plan: Plan) -> dict[int, ShardRecord]:
        """Shards whose record was written: they are whole. A shard without its record does not exist."""
        found = {}
        for number in range(plan.num_shards):
            record_path, path = self.path / shard_record_name(number), self.path / shard_name(number)
            if not record_path.exists():
                continue
            try:
                record = read_shard_record(record_path)
            except DatasetError:
                continue
            wanted = plan.shard(number)
            whole = path.is_file() and path.stat().st_size == record.bytes
            if whole and (record.first_index, record.count) == (wanted.first_index, wanted.count):
                found[number] = record
        return found


def differences(found: Any, wanted: Any, name: str = "") -> str:
    """Name the fields in which two recipes differ: ``views.std 0.1 there, 0.2 asked for``."""
    rows = list(_differences(found, wanted, name))
    shown = "; ".join(rows[:MAX_NAMED_DIFFERENCES])
    return shown if len(rows) <= MAX_NAMED_DIFFERENCES else f"{shown}; and {len(rows) - MAX_NAMED_DIFFERENCES} more"


def _differences(found: Any, wanted: Any, name: str) -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        rows = []
        for key in sorted(found.keys() | wanted.keys()):
            rows += _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        return rows
    return [] if found == wanted else [f"{name} {json.dumps(found)} there, {json.dumps(wanted)} asked for"]
