"""The cache of converted weights: ``<key>.safetensors``, and ``<key>.json`` with the facts, written last.

A pair that is incomplete or damaged counts as absent, and so does all of it where the cache cannot be read or written.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genrep.errors import WeightsError
from genrep.files import sha256_file
from genrep.untrusted import read_object

from ..generators.checkpoint import Checkpoint, checkpoint_from_safetensors, save_checkpoint
from .cache import converted_folder, publish, writable

PATIENCE = 600.0  # seconds to wait for another process's conversion before doing the same


def load(key: str) -> Checkpoint | None:
    """The checkpoint of ``key``; None if it is not there whole."""
    try:
        folder = converted_folder()
        facts = read_object(folder / f"{key}.json", WeightsError)
        path = folder / f"{key}.safetensors"
        if sha256_file(path) != facts.get("converted_sha256"):
            return None
        return checkpoint_from_safetensors(path)
    except (OSError, ValueError, RecursionError, WeightsError):
        return None


def save(folder: Path, key: str, checkpoint: Checkpoint, facts: dict[str, Any]) -> None:
    """Keep a checkpoint in the folder that ``workshop`` gave, if there is room."""
    path, record = folder / f"{key}.safetensors", folder / f"{key}.json"
    staging = folder / f".{key}.{os.getpid()}.safetensors"
    try:
        save_checkpoint(checkpoint, staging)
        facts = {
            **facts,
            "family": checkpoint.family,
            "config": checkpoint.config,
            "converted_sha256": sha256_file(staging),
        }
        record.unlink(missing_ok=True)
        os.replace(staging, path)
        publish(record, json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    except OSError:  # it was only to save time
        with suppress(OSError):
            staging.unlink(missing_ok=True)


@contextmanager
def workshop() -> Iterator[Path | None]:
    """Hold the cache's folder alone, swept of what killed processes left; yields None where it cannot be written.

    One process converts at a time: each may need several times the file's size in memory.
    """
    folder, descriptor = None, -1
    with suppress(OSError, WeightsError):
        folder = writable(converted_folder())
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if folder is None or descriptor < 0:
        yield None
        return
    try:
        if _lock(descriptor):
            _sweep(folder)
        yield folder
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # a filesystem without locks
            break
    return False


def _sweep(folder: Path) -> None:
    """Remove what was left unfinished; nobody else is at work here."""
    for leftover in folder.glob(".*"):
        with suppress(OSError):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
