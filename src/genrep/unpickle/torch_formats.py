"""torch's two file formats: the zip archive, and the sequence of pickles and storages that came before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .archive import Archive
from .arrays import empty_storage, fill, storage_dtype
from .calls import KNOWN, raw
from .limits import Malformed, ReadingLimits, show
from .literals import Cursor
from .machine import Machine

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
_VERSION = 1001


def read_zip(data: memoryview, limits: ReadingLimits, *, scripts: bool = False) -> Any:
    """The object in a zip archive as ``torch.save`` writes it, or ``torch.jit.save`` (``scripts``). Raises Malformed."""
    archive = Archive(data, scripts=scripts)
    order = bytes(archive.get("byteorder", b"little")).strip()
    if order not in (b"little", b"big"):
        raise Malformed("its record of the byte order is neither little nor big")
    storages: dict[str, Tensor] = {}

    def persistent(key: Any) -> Tensor:
        kind, name, numel = _storage_id(key)
        dtype = storage_dtype(kind)
        if name not in storages:
            content = archive.read(f"data/{name}")
            storages[name] = empty_storage(limits, dtype, numel, len(content))
            fill(storages[name], content, big_endian=order == b"big")
        return _again(storages[name], name, dtype, numel)

    return Machine(Cursor(archive.read("data.pkl")), limits, _KNOWN, persistent).run()


def read_pickle(data: memoryview, limits: ReadingLimits) -> Any:
    """The object in a pickle, or in a file of torch's older format. Raises Malformed."""
    cursor = Cursor(data)
    first = Machine(cursor, limits, _KNOWN).run()
    return _Legacy(cursor, limits).read() if type(first) is int and first == MAGIC else first


def read_legacy(data: memoryview, limits: ReadingLimits) -> Any:
    """The object in a file of torch's older format inside of another file. Raises Malformed."""
    if not limits.nesting:
        raise Malformed("it nests files in files")
    limits.nesting -= 1
    cursor = Cursor(data)
    if Machine(cursor, limits, _KNOWN).run() != MAGIC:
        raise Malformed("it nests a file that is not torch's")
    found = _Legacy(cursor, limits).read()
    limits.nesting += 1
    return found


@dataclass
class _Legacy:
    """The parts after the magic number: version, system, object, keys of storages, then each storage's count and data."""

    cursor: Cursor
    limits: ReadingLimits
    storages: dict[str, Tensor] = field(default_factory=dict)
    claimed: int = 0

    def read(self) -> Any:
        version = Machine(self.cursor, self.limits, _KNOWN).run()
        if version != _VERSION:
            raise Malformed(f"torch's older format has version {show(version)}; {_VERSION} is known")
        Machine(
            self.cursor, self.limits, _KNOWN
        ).run()  # of the system that wrote it: its data are little-endian on any
        found = Machine(self.cursor, self.limits, _KNOWN, self._persistent).run()
        keys = Machine(self.cursor, self.limits, _KNOWN).run()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise Malformed("its list of storages is not a list")
        if sorted(keys) != sorted(self.storages):
            raise Malformed(f"it has the data of {len(keys)} storages for {len(self.storages)} that are used")
        for key in keys:
            count, storage = self.cursor.signed(8), self.storages[key]
            if count != storage.numel():
                raise Malformed(f"it has a storage of {storage.numel()} numbers with the data of {count}")
            fill(storage, self.cursor.take(storage.nbytes))
        return found

    def _persistent(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 4 and key[0] in ("module", b"module"):
            return key[1]  # a class, with its source text
        view = key[5] if isinstance(key, tuple) and len(key) == 6 else None
        kind, name, numel = _storage_id(key[:5] if isinstance(key, tuple) and len(key) == 6 else key)
        dtype = storage_dtype(kind)
        if name not in self.storages:
            self.storages[name] = empty_storage(self.limits, dtype, numel, self.cursor.left - self.claimed)
            self.claimed += self.storages[name].nbytes
        return _part(_again(self.storages[name], name, dtype, numel), view)


def _storage_id(key: Any) -> tuple[Any, str, Any]:
    """Class, name and count of a persistent id ("storage", class, name, device, count)."""
    if not isinstance(key, tuple) or len(key) != 5 or key[0] not in ("storage", b"storage"):
        raise Malformed("its pickle refers to something that is not a storage (a persistent id)")
    if not isinstance(key[2], str) or len(key[2]) > 200:
        raise Malformed(f"it has a storage named by {show(key[2])}")
    return key[1], key[2], key[4]


def _again(storage: Tensor, name: str, dtype: Any, numel: Any) -> Tensor:
    """A storage that may have been met before: it must be of the same kind."""
    if storage.dtype != dtype or storage.numel() != numel:
        raise Malformed(f"it has a storage {show(name)} of two kinds")
    return storage


def _part(storage: Tensor, view: Any) -> Tensor:
    """A storage inside another: (name, offset, size), or None for the whole."""
    if view is None:
        return storage
    if not isinstance(view, tuple) or len(view) != 3 or not all(type(number) is int for number in view[1:]):
        raise Malformed("it has a view of something that is not a storage")
    _, offset, size = view
    if min(offset, size) < 0 or offset + size > storage.numel():
        raise Malformed(f"it has a view that reaches out of its storage of {storage.numel()} numbers")
    return storage[offset : offset + size]


def _nested(limits: ReadingLimits, content: Any) -> Any:
    """``torch.storage._load_from_bytes``: torch would unpickle again here; so do we, with the same machine."""
    return read_legacy(memoryview(raw(content)), limits)


_KNOWN = {**KNOWN, "torch.storage._load_from_bytes": _nested}
