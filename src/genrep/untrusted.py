"""Safe handling of files from strangers: opening them, parsing their content, showing their names.

Only regular files are opened, never a link, a pipe or a device. At most a stated number of bytes is read. Any failure of a
parser becomes the caller's error. Every name or value reaches a terminal escaped and cut.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DatasetError, GenRepError, Phrase, phrase

# O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever. It changes nothing for regular files.
FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
# Errors that parsers raise about content that they cannot take, besides their own.
CONTENT_FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
MAX_TEXT = 64 << 20  # bytes of a file of settings or facts
ADDRESS_OF_OBJECT = re.compile(r"<([\w. ]{1,80}) at 0x[0-9a-fA-F]{1,16}>")  # says nothing, and differs from run to run
KINDS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "a symbolic link, wanted a regular file",
    errno.ENXIO: "a socket or pipe, wanted a regular file",
}


def open_regular(path: Path, error: type[GenRepError] = DatasetError, *, follow: bool = False) -> int:
    """Open a regular file for reading and return its descriptor, which the caller closes.

    Args:
        error: the class of what is raised.
        follow: take a link to a regular file. A user's own path may be a link; a name in a stranger's folder may not.

    Raises:
        error: one line that names the path, for anything else: missing, unreadable, a folder, a pipe, a device.
    """
    try:
        descriptor = os.open(path, FLAGS if follow else FLAGS | os.O_NOFOLLOW)
    except OSError as fault:
        raise error(f"{printable(str(path))}: {KINDS.get(fault.errno or 0, fault.strerror)}") from None
    except ValueError as fault:  # a null byte in the path
        raise error(f"{shown(str(path))}: {fault}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(f"{printable(str(path))}: a folder or device, wanted a regular file")
    return descriptor


def read_bounded(path: Path, limit: int, error: type[GenRepError] = DatasetError, *, follow: bool = False) -> bytes:
    """The content of a regular file. Raises ``error``, as ``open_regular``, or if it has more than ``limit`` bytes."""
    descriptor = open_regular(path, error, follow=follow)
    try:
        if (size := os.fstat(descriptor).st_size) > limit:
            raise error(f"{printable(str(path))}: {size:,} bytes, wanted at most {limit:,}")
        return bytes(read_at(descriptor, limit, 0))
    except OSError as fault:
        raise error(f"{printable(str(path))}: {fault.strerror}") from None
    finally:
        os.close(descriptor)


def regular(path: str | Path, flags: int) -> int:
    """``open(path, "rb", opener=regular)`` opens regular files, behind links too, and waits for no pipe. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a folder, pipe or device, wanted a regular file", str(path))
    return descriptor


def parse_toml(data: bytes, where: Path | str | Phrase, error: type[GenRepError]) -> dict[str, Any]:
    """The tables of a TOML file. Raises ``error``."""
    import tomllib

    with content_faults(phrase("{}: not a TOML file", where), error):
        return tomllib.loads(data.decode())


def read_object(path: Path, error: type[GenRepError], limit: int = MAX_TEXT) -> dict[str, Any]:
    """The JSON object in a file of the user's own. Raises ``error`` as ``read_bounded``, and for any other content."""
    data = read_bounded(path, limit, error, follow=True)
    with content_faults(f"{path}: not JSON", error):
        value = json.loads(data)
    if not isinstance(value, dict):
        raise error(f"{printable(str(path))}: a JSON {type(value).__name__}, wanted an object")
    return value


@contextmanager
def content_faults(where: Path | str | Phrase, error: type[GenRepError], wanted: str = "") -> Iterator[None]:
    """Whatever a parser raises about a file's content within becomes ``error``: its name, the reason, what was ``wanted``.

    A ``GenRepError`` passes as it is; so do ``OSError`` and ``MemoryError``, which are the machine's.
    """
    try:
        yield
    except GenRepError:
        raise
    except CONTENT_FAULTS as fault:
        reason = one_line(str(fault)) or type(fault).__name__
        subject = phrase("{}", where).map(printable)
        raise error.naming("{}: {}{}", subject, reason, f"; wanted {wanted}" if wanted else "") from fault


def read_at(descriptor: int, size: int, offset: int) -> bytearray:
    """Read up to ``size`` bytes at ``offset``; fewer only where the file ends. Raises OSError."""
    data = bytearray(min(size, max(os.fstat(descriptor).st_size - offset, 0)))
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


def label(name: object, length: int = 80) -> str:
    """A stranger's name for a list of names: as it is where it is short and can be printed, else escaped and cut."""
    text = printable(str(name)[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."


def line(text: str, length: int = 2000) -> str:
    """A stranger's text as one line. Unprintable characters are escaped, spaces stay, and it is cut at ``length``."""
    escaped = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: length + 1])
    return escaped if len(escaped) <= length else escaped[: length - 3] + "..."


def one_line(text: str, length: int = 200) -> str:
    """A stranger's text as a part of one line: what cannot be printed becomes a space, and it is cut at ``length``."""
    text = ADDRESS_OF_OBJECT.sub(r"<\1>", text[: 10 * length])
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text[: 10 * length].split()))[:length]
