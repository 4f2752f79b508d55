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


def _decimal(source: Cursor) -> int | bool:
    line = source.line(_NUMBER)
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(source: Cursor) -> str | bytes:
    line = source.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise Malformed(f"it has a string without quotes before byte {source.at}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of escapes that are none, which stay as they are
        return python2_string(
            codecs.escape_decode(line[1:-1])[0]
        )  # Python's own of protocol 0, in as much memory as the line


def _number(source: Cursor, width: int) -> int:
    size = source.unsigned(width)
    if size > _NUMBER:
        raise Malformed(f"it has an integer of {size} bytes before byte {source.at}")
    return source.signed(size)


# By the operation's byte (https://docs.python.org/3/library/pickletools.html).
LITERALS: dict[int, Callable[[Cursor], Any]] = {
    ord("N"): lambda source: None,
    0x88: lambda source: True,
    0x89: lambda source: False,
    ord("I"): _decimal,
    ord("L"): lambda source: int(source.line(_NUMBER).rstrip(b"L")),
    ord("J"): lambda source: source.signed(4),
    ord("K"): lambda source: source.unsigned(1),
    ord("M"): lambda source: source.unsigned(2),
    0x8A: lambda source: _number(source, 1),
    0x8B: lambda source: _number(source, 4),
    ord("F"): lambda source: float(source.line(_NUMBER)),
    ord("G"): lambda source: struct.unpack(">d", source.take(8))[0],
    ord("S"): _quoted,
    ord("T"): lambda source: python2_string(source.take(source.unsigned(4))),
    ord("U"): lambda source: python2_string(source.take(source.unsigned(1))),
    ord("V"): lambda source: codecs.raw_unicode_escape_decode(source.line())[0],
    ord("X"): lambda source: text(source.take(source.unsigned(4))),
    0x8C: lambda source: text(source.take(source.unsigned(1))),
    0x8D: lambda source: text(source.take(source.unsigned(8))),
    ord("B"): lambda source: data(source.take(source.unsigned(4))),
    ord("C"): lambda source: data(source.take(source.unsigned(1))),
    0x8E: lambda source: data(source.take(source.unsigned(8))),
    0x96: lambda source: changeable(source.take(source.unsigned(8))),
}
