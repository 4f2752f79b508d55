"""The folders of the cache.

    $GENREP_HOME, else $XDG_CACHE_HOME/genrep, else ~/.cache/genrep (genrep.files)
      weights/<recipe>/FILE              a download, with FILE.facts.json beside it (facts.py)
      converted/<key>.safetensors .json  what became of a weights file (conversion.py)

Everything in it can be removed at any time, and an administrator may fill it and make it read-only.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from genrep.errors import WeightsError
from genrep.files import HOME, home, sha256_file, write_atomic


def cache_folder() -> Path:
    """The cache, which need not exist. Raises WeightsError if there is no telling where it would be."""
    try:
        return home()
    except (RuntimeError, OSError) as error:  # a user without home, "~nobody", a current folder that is gone
        raise WeightsError(
            f"{HOME}={os.environ.get(HOME, '')}: no place for the cache ({error}); set {HOME} to a folder that can be written"
        ) from None


def weights_folder(recipe_name: str) -> Path:
    """Where the downloads of a recipe lie; need not exist."""
    inner = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in recipe_name).lstrip(".")
    return cache_folder() / "weights" / (inner or "_")


def converted_folder() -> Path:
    """Where converted weights lie; need not exist."""
    return cache_folder() / "converted"


def make_folder(folder: Path) -> str | None:
    """Make a folder; returns why it cannot be written, or None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return None if os.access(folder, os.W_OK | os.X_OK) else "no permission to write"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def writable(folder: Path) -> Path:
    """Make a folder of the cache. Raises WeightsError if that, or writing in it, is impossible."""
    reason = make_folder(folder)
    if reason is not None:
        raise WeightsError(f"cache {folder}: cannot be written ({reason}); set {HOME} to a folder that can")
    return folder


def digest_file(path: Path) -> str:
    """Hex sha256 of a weights file, computed once per process while the file stays as it is.

    Raises WeightsError if it cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=256)
def _digest(path: Path, inode: int, size: int, modified: int) -> str:
    return sha256_file(path)


def publish(path: Path, data: bytes) -> None:
    """``write_atomic``, also when several processes write the same file at once. Raises OSError."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_atomic(staging, data)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
