"""Who may write what in a folder that several processes, perhaps on several machines, build together.

Locks on single bytes of ``recipe.json``: they leave no file, die with the process, and most network filesystems carry them.
Open-file-description locks, since a POSIX lock would be lost as soon as the process closed any descriptor of the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

MANIFEST_BYTE, FIRST_SHARD_BYTE = 0, 1
FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class FolderLocks:
    """The locks of one build; a context manager that holds ``recipe.json`` open."""

    def __init__(self, recipe_path: Path) -> None:
        self.path = recipe_path
        self.descriptor = -1

    def __enter__(self) -> FolderLocks:
        try:
            self.descriptor = os.open(self.path, os.O_RDWR)
        except OSError:
            self.descriptor = os.open(self.path, os.O_RDONLY)  # a read-only folder: nothing will be written either
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    @contextmanager
    def shard(self, number: int) -> Iterator[bool]:
        """Try to be the only writer of a shard; yields whether that is so."""
        taken = self._set(fcntl.F_WRLCK, FIRST_SHARD_BYTE + number, wait=False)
        try:
            yield taken
        finally:
            if taken:
                self._set(fcntl.F_UNLCK, FIRST_SHARD_BYTE + number, wait=False)

    @contextmanager
    def manifest(self) -> Iterator[None]:
        """Be the only one who finishes the dataset; waits for others, who take seconds."""
        self._set(fcntl.F_WRLCK, MANIFEST_BYTE, wait=True)
        try:
            yield
        finally:
            self._set(fcntl.F_UNLCK, MANIFEST_BYTE, wait=False)

    def _set(self, kind: int, byte: int, *, wait: bool) -> bool:
        request = struct.pack(FLOCK, kind, os.SEEK_SET, byte, 1, 0)
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another process has it
            return False
        except OSError as error:
            # A filesystem without such locks, or a folder that cannot be written: parts are disjoint without them.
            if error.errno not in UNSUPPORTED | {errno.EBADF}:
                raise
        return True
