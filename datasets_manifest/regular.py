"""Opening files that a stranger may have prepared: regular files only, never a link, a pipe or a device."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from genrep.errors import DatasetError

# O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever. It changes nothing for regular files.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KINDS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "a symbolic link, wanted a regular file",
    errno.ENXIO: "a socket or pipe, wanted a regular file",
}


def open_regular(path: Path, error: type[DatasetError] = DatasetError) -> int:
    """Open a regular file for reading and return its descriptor, which the caller closes.

    Raises ``error`` (a line that names the path) for anything else: missing, unreadable, a link, a folder, a device.
    """
    try:
        descriptor = os.open(path, FLAGS)
    except OSError as fault:
        raise error(f"{path}: {KINDS.get(fault.errno or 0, fault.strerror)}") from None
    except ValueError as fault:  # a null byte in the path
        raise error(f"{shown(str(path))}: {fault}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(f"{path}: a folder or device, wanted a regular file")
    return descriptor


def read_at(descriptor: int, size: int, offset: int) -> bytearray:
    """Read up to ``size`` bytes at ``offset``; fewer only where the file ends. Raises OSError."""
    data = bytearray(size)
    count = read_into(descriptor, memoryview(data), offset)
    return data if count == size else data[:count]


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer of bytes from ``offset`` on and return how many there were, fewer only where the file ends."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done : done + (1 << 30)]], offset + done)
        if count == 0:
            break
        done += count
    return done


def shown(value: Any, length: int = 60) -> str:
    """A short form of a stranger's value that is safe to print: ASCII, no control characters, cut at ``length``."""
    text = ascii(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def printable(name: str) -> str:
    """A stranger's text as it is where every character can be printed (no escapes, no bidi marks), else escaped."""
    return name if name.isprintable() else ascii(name)
