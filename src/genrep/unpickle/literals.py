"""A pickle's bytes: a cursor that never reads past their end, and what literals leave on the stack."""

from __future__ import annotations

import codecs
import struct
import warnings
from collections.abc import Callable
from typing import Any

from .limits import Malformed


class Cursor:
    """``data[at:]``, read forwards. Every method raises Malformed where the data end too early."""

    def __init__(self, data: memoryview, at: int = 0):
        self.data = data
        self.at = at

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        if not 0 <= count <= self.left:
            raise Malformed(f"it claims {count} bytes at byte {self.at}, where {self.left} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def signed(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little", signed=True)

    def line(self, most: int | None = None) -> bytes:
        """The bytes up to a newline, which is consumed and not returned; ``most`` of them at most."""
        reach = 128
        while True:
            piece = bytes(self.data[self.at : self.at + reach])
            end = piece.find(b"\n")
            if end >= 0 and (most is None or end <= most):
                self.at += end + 1
                return piece[:end]
            if end >= 0 or (most is not None and reach > most):
                raise Malformed(f"it has a line of more than {most} bytes at byte {self.at}")
            if reach >= self.left:
                raise Malformed(f"it ends too early, in the line at byte {self.at}")
            reach *= 4


_NUMBER = 1000  # characters or bytes in one number
_SHARED = 1 << 12  # bytes from which a byte string is a view of the file and no copy


def data(view: memoryview) -> bytes | memoryview:
    """Bytes; long ones as a read-only view, since weights would double in memory."""
    return bytes(view) if len(view) < _SHARED else view


def changeable(view: memoryview) -> bytearray | memoryview:
    return bytearray(view) if len(view) < _SHARED else view


def text(view: memoryview) -> str:
    return str(view, "utf-8", "surrogatepass")


def python2_string(raw: memoryview | bytes) -> str | bytes:
    """Python 2 had one type for text and bytes: text where it is ASCII."""
    try:
        return str(raw, "ascii")
    except UnicodeDecodeError:
        return bytes(raw)


def _decimal(cursor: Cursor) -> int | bool:
    line = cursor.line(_NUMBER)
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(cursor: Cursor) -> str | bytes:
    line = cursor.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise Malformed(f"it has a string without quotes before byte {cursor.at}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of escapes that are none, which stay as they are
        return python2_string(
            codecs.escape_decode(line[1:-1])[0]
        )  # Python's own of protocol 0, in as much memory as the line


def _number(cursor: Cursor, width: int) -> int:
    size = cursor.unsigned(width)
    if size > _NUMBER:
        raise Malformed(f"it has an integer of {size} bytes before byte {cursor.at}")
    return cursor.signed(size)


# By the operation's byte (https://docs.python.org/3/library/pickletools.html).
LITERALS: dict[int, Callable[[Cursor], Any]] = {
    ord("N"): lambda cursor: None,
    0x88: lambda cursor: True,
    0x89: lambda cursor: False,
    ord("I"): _decimal,
    ord("L"): lambda cursor: int(cursor.line(_NUMBER).rstrip(b"L")),
    ord("J"): lambda cursor: cursor.signed(4),
    ord("K"): lambda cursor: cursor.unsigned(1),
    ord("M"): lambda cursor: cursor.unsigned(2),
    0x8A: lambda cursor: _number(cursor, 1),
    0x8B: lambda cursor: _number(cursor, 4),
    ord("F"): lambda cursor: float(cursor.line(_NUMBER)),
    ord("G"): lambda cursor: struct.unpack(">d", cursor.take(8))[0],
    ord("S"): _quoted,
    ord("T"): lambda cursor: python2_string(cursor.take(cursor.unsigned(4))),
    ord("U"): lambda cursor: python2_string(cursor.take(cursor.unsigned(1))),
    ord("V"): lambda cursor: codecs.raw_unicode_escape_decode(cursor.line())[0],
    ord("X"): lambda cursor: text(cursor.take(cursor.unsigned(4))),
    0x8C: lambda cursor: text(cursor.take(cursor.unsigned(1))),
    0x8D: lambda cursor: text(cursor.take(cursor.unsigned(8))),
    ord("B"): lambda cursor: data(cursor.take(cursor.unsigned(4))),
    ord("C"): lambda cursor: data(cursor.take(cursor.unsigned(1))),
    0x8E: lambda cursor: data(cursor.take(cursor.unsigned(8))),
    0x96: lambda cursor: changeable(cursor.take(cursor.unsigned(8))),
}
