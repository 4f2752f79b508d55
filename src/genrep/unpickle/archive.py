"""The zip archives that torch writes: members are stored as they are, and are read without a copy.

Format: PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (ends), 4.5.3 (64 bit).
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from .limits import Malformed, show

_LOCAL, _ENTRY, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64, _LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
_MOST_MEMBERS = 500_000
_MOST_COMMENT = 1 << 16
_FULL = 0xFFFFFFFF  # the number is in the 64 bit field


class _Member(NamedTuple):
    header: int  # where its local header lies
    size: int
    crc: int
    plain: bool  # neither compressed nor encrypted


_SCRIPT = re.compile(r"(^|/)code/__torch__|(^|/)constants\.pkl$")
# Other programs' archives, by what is in them and in no checkpoint of torch.save.
_OTHERS = (
    (
        _SCRIPT,
        "a TorchScript program, which is code; save what torch.jit.load(FILE).state_dict() gives with torch.save",
    ),
    (
        re.compile(r"(^|/)(serialized_exported_program\.json|archive_format)$"),
        "a program of torch.export, which is code; save what torch.export.load(FILE).state_dict holds with torch.save",
    ),
    (re.compile(r"\.weights\.h5$"), "a model of Keras; convert it to a network of PyTorch"),
    (re.compile(r"\.npy$"), "an archive of NumPy's arrays (.npz); save them as a dictionary with torch.save"),
)


class Archive:
    """A checkpoint's members by their names below its one folder. Raises Malformed for any other archive.

    ``scripts``: a TorchScript program may be read as well. Its modules and tensors lie as in a checkpoint, beside its code.
    """

    def __init__(self, data: memoryview, *, scripts: bool = False):
        self._data = data
        members = self._directory()
        for pattern, what in _OTHERS:
            if not (scripts and pattern is _SCRIPT) and any(pattern.search(name) for name in members):
                raise Malformed(f"it is {what}")
        pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Malformed(f"it is a zip archive with {len(pickles)} data.pkl in it; a checkpoint of torch has one")
        folder = pickles[0].removesuffix("data.pkl")
        self._members = {
            name.removeprefix(folder): member for name, member in members.items() if name.startswith(folder)
        }
        self._names = folder

    def get(self, name: str, default: bytes) -> memoryview | bytes:
        return self.read(name) if name in self._members else default

    def read(self, name: str) -> memoryview:
        """A member's bytes, not copied; its checksum is tested unless none was recorded."""
        if name not in self._members:
            raise Malformed(f"it has no record {show(name)}")
        member = self._members[name]
        if not member.plain:
            raise Malformed(f"its record {show(name)} is compressed or encrypted; torch stores them as they are")
        header = self._slice(member.header, 30)
        if bytes(header[:4]) != _LOCAL:
            raise Malformed(f"its record {show(name)} lies where none begins")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        if bytes(self._slice(member.header + 30, name_length)) != (self._names + name).encode():
            raise Malformed(f"its record {show(name)} is another one")
        content = self._slice(member.header + 30 + name_length + extra_length, member.size)
        if member.crc and zlib.crc32(content) != member.crc:  # torch can be told to write 0
            raise Malformed(f"its record {show(name)} is damaged: its checksum differs")
        return content

    def _slice(self, start: int, count: int) -> memoryview:
        if start < 0 or count < 0 or start + count > len(self._data):
            raise Malformed("it is a zip archive whose parts lie beyond its end")
        return self._data[start : start + count]

    def _directory(self) -> dict[str, _Member]:
        start, size, count = self._end()
        if count > _MOST_MEMBERS:
            raise Malformed(f"it is a zip archive of {count} members")
        table = self._slice(start, size)
        members: dict[str, _Member] = {}
        at = 0
        for _ in range(count):
            name, member, length = _entry(table[at:])
            if name in members:
                raise Malformed(f"it is a zip archive with two members {show(name)}")
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
                raise Malformed(f"it is a zip archive with a member {show(name)} outside of it")
            members[name] = member
            at += length
        return members

    def _end(self) -> tuple[int, int, int]:
        """Start, size and number of entries of the directory."""
        tail = bytes(self._data[-(22 + _MOST_COMMENT) :])
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            raise Malformed("it is a zip archive without a directory: it ends too early")
        count, size, start = struct.unpack("<HII", tail[at + 10 : at + 20])
        if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR64:
            (where,) = struct.unpack("<Q", tail[at - 12 : at - 4])
            record = bytes(self._slice(where, 56))
            if record[:4] != _END64:
                raise Malformed("it is a zip archive whose directory is not where it says")
            count, size, start = struct.unpack("<QQQ", record[32:56])
        return start, size, count


def _entry(table: memoryview) -> tuple[str, _Member, int]:
    """Name, place and length of the directory's entry at the start of ``table``."""
    if len(table) < 46 or bytes(table[:4]) != _ENTRY:
        raise Malformed("it is a zip archive with a damaged directory")
    flags, method = struct.unpack("<HH", table[8:12])
    crc, packed, size, name_length, extra_length, comment_length = struct.unpack("<IIIHHH", table[16:34])
    (header,) = struct.unpack("<I", table[42:46])
    length = 46 + name_length + extra_length + comment_length
    if len(table) < length:
        raise Malformed("it is a zip archive with a damaged directory")
    try:
        name = str(table[46 : 46 + name_length], "utf-8")
    except UnicodeDecodeError:
        raise Malformed("it is a zip archive with a name that is not text") from None
    size, packed, header = _wide(table[46 + name_length : 46 + name_length + extra_length], size, packed, header)
    return name, _Member(header, size, crc, not (flags & 1 or method or packed != size)), length


def _wide(extra: memoryview, *numbers: int) -> tuple[int, ...]:
    """The numbers. Those that did not fit in 32 bits come from the extra field."""
    found = list(numbers)
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        field = extra[4 : 4 + length]
        extra = extra[4 + length :]
        if kind != 1:
            continue
        for i, number in enumerate(found):
            if number == _FULL and len(field) >= 8:
                found[i] = int.from_bytes(field[:8], "little")
                field = field[8:]
    return tuple(found)
