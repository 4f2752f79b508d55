"""The part of a download that is there: hidden beside its place, locked by the one who writes it, with notes of what it is of.

``.NAME.part`` and ``.NAME.part.json`` (address, ETag, date, length) outlive a kill, for the next run to go on from.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from genrep.errors import WeightsError
from genrep.progress import note
from genrep.untrusted import read_object

from .cache import publish

POLL = 0.2  # seconds between looks at another process's download
STALLED = 300.0  # seconds after which a download of another process that does not grow is given up


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a part is of."""

    url: str
    etag: str | None  # a strong one
    modified: str | None  # the server's date
    total: int | None  # bytes of the whole file

    @property
    def validator(self) -> str | None:
        """For If-Range: what tells whether the file is still the same."""
        return self.etag or self.modified


class Part:
    """An open part file. Its methods raise OSError."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    @staticmethod
    def place(target: Path) -> Path:
        """Of the part of a file."""
        return target.with_name(f".{target.name}.part")

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def cut(self, size: int) -> None:
        """Keep only the first bytes, and write on from there."""
        os.ftruncate(self.descriptor, size)
        os.lseek(self.descriptor, size, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        return os.pread(self.descriptor, size, 0)

    def note(self, notes: Notes) -> None:
        """Write down what the part is of."""
        publish(_notes(self.path), json.dumps(asdict(notes)).encode())

    def notes(self) -> Notes | None:
        """What an earlier run noted; None if that is missing or damaged."""
        try:
            notes = Notes(**read_object(_notes(self.path), WeightsError))
        except (WeightsError, TypeError):
            return None
        texts = (notes.url, notes.etag, notes.modified)
        return notes if all(text is None or isinstance(text, str) for text in texts) else None

    def forget(self) -> None:
        """Make it a part of nothing."""
        _notes(self.path).unlink(missing_ok=True)
        self.cut(0)

    def discard(self) -> None:
        """Leave no trace of it."""
        _discard(self.path)


@contextmanager
def open_part(target: Path, *, tell: bool) -> Iterator[Part | None]:
    """Be the only one who downloads ``target``; yields None once it is there, perhaps after waiting for another process.

    Raises OSError, or WeightsError if the other process gets nowhere.
    """
    path = Part.place(target)
    size, since = -1, time.monotonic()
    while not os.path.exists(target):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if _lock(descriptor):
                if os.path.exists(target):
                    _discard(path)
                elif _is_still(path, descriptor):  # neither renamed nor removed by the one who had it before
                    yield Part(path, descriptor)
                    return
                continue
            if os.fstat(descriptor).st_size != size:
                size, since = os.fstat(descriptor).st_size, time.monotonic()
        finally:
            os.close(descriptor)
        if time.monotonic() - since > STALLED:
            raise WeightsError(f"weights {target}: another process downloads it but gets nothing for {STALLED:g} s")
        if tell:
            note(f"{target.name}: another process downloads it; waiting")
            tell = False
        time.sleep(POLL)
    yield None


def _notes(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _discard(path: Path) -> None:
    for leftover in (path, _notes(path)):
        leftover.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a filesystem without locks
        return True
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
