"""Digests of files' contents. Each file is read once, until it changes.

A digest is remembered under the file's path, size and times of change (``mtime_ns``, and ``ctime_ns``, which no program can
set) in ``contents/`` of the cache folder: 32 bytes a file. Sets below ``WORTH_KEEPING`` bytes are read every time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError
from .files import home, write_atomic
from .machine import cores
from .progress import Progress
from .untrusted import open_regular, printable, regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES = 16  # of a digest
WORTH_KEEPING = 256 << 20
BLOCK = 1 << 20
CHUNK = 64  # files that a thread reads at a time
SETTLED_NS = (
    2_000_000_000  # a file that changed less than this ago may change again without its times telling (FAT: 2 s)
)


def digest_bytes(data: bytes | memoryview) -> bytes:
    """The digest of a content: BLAKE2b of 16 bytes."""
    return hashlib.blake2b(data, digest_size=BYTES).digest()


def digest_files(paths: Sequence[str], label: str = "images") -> NDArray[np.uint8]:
    """The digests of files. Shape: ``(N, 16)``.

    Raises DataError if one is missing, unreadable or no regular file (a link to one is).
    """
    now = time.time_ns()
    keys, total = [], 0
    for path in paths:
        try:
            facts = os.stat(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{printable(path)}: {getattr(error, 'strerror', error)}") from error
        total += facts.st_size
        stamp = f"{os.path.abspath(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ctime_ns}"
        settled = now - max(facts.st_mtime_ns, facts.st_ctime_ns) > SETTLED_NS
        keys.append(digest_bytes(stamp.encode(errors="surrogateescape")) if settled else b"")
    store = _store(paths) if total >= WORTH_KEEPING and paths else None
    known = _read(store)
    rows = [i for i, key in enumerate(keys) if key not in known]
    found = {keys[i]: known[keys[i]] for i in range(len(keys)) if keys[i] in known}
    fresh = dict(zip(rows, _digest_all([paths[i] for i in rows], label, silent=store is None)))
    result = b"".join(fresh[i] if i in fresh else found[key] for i, key in enumerate(keys))
    if store is not None and rows:
        _write(store, known, {keys[i]: digest for i, digest in fresh.items() if keys[i]}, len(paths))
    return np.frombuffer(result, dtype=np.uint8).reshape(len(paths), BYTES)


def _digest_all(paths: list[str], label: str, *, silent: bool) -> list[bytes]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    found: list[bytes] = []
    with (
        ThreadPoolExecutor(cores(), thread_name_prefix="digest") as pool,
        Progress(len(paths), "file", f"digests of {label}", silent=silent) as progress,
    ):
        try:
            for part in pool.map(lambda chunk: [_digest_file(path) for path in chunk], chunks):
                found += part
                progress.update(len(part))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _digest_file(path: str) -> bytes:
    descriptor = open_regular(Path(path), DataError, follow=True)
    state = hashlib.blake2b(digest_size=BYTES)
    try:
        while block := os.read(descriptor, BLOCK):
            state.update(block)
    except OSError as error:
        raise DataError(f"{printable(path)}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return state.digest()


def _store(paths: Sequence[str]) -> Path | None:
    """The file that remembers the digests of these paths' folder; None if there is no cache folder."""
    base = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    try:
        return home() / "contents" / f"{digest_bytes(base.encode(errors='surrogateescape')).hex()}.bin"
    except (RuntimeError, OSError):
        return None


def _read(store: Path | None) -> dict[bytes, bytes]:
    """Key to digest; empty where nothing whole is there, so that everything is read."""
    if store is None:
        return {}
    try:
        with open(store, "rb", opener=regular) as file:
            data = file.read()
    except OSError:
        return {}
    check, table = data[:BYTES], data[BYTES:]
    if digest_bytes(table) != check or len(table) % (2 * BYTES):
        return {}
    return {table[at : at + BYTES]: table[at + BYTES : at + 2 * BYTES] for at in range(0, len(table), 2 * BYTES)}


def _write(store: Path, known: dict[bytes, bytes], fresh: dict[bytes, bytes], count: int) -> None:
    """Best effort: a cache that cannot be written costs time only."""
    kept = known if len(known) <= 4 * count + CHUNK else {}  # what became of files that changed is not kept for ever
    table = b"".join(key + digest for key, digest in {**kept, **fresh}.items())
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(store, digest_bytes(table) + table, shared=True)
    except OSError:
        pass
