"""Datasets in folders and object stores, read through the same interface as those on web servers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from genrep.errors import DatasetError
from genrep.extras import install
from genrep.net import SCHEMES, HttpFolder, Limits, Lost, Missing, RangeRefused, Refused, Stop, shown
from genrep.untrusted import one_line, open_regular

from ..manifest import MANIFEST_NAME, dataset_folder

BLOCK = 8 << 20  # most bytes of one request to a store
LEAST = 256 << 10  # and of the first; then an eighth of what came, so that a kill costs no more than that
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError, TypeError)
Result = TypeVar("Result")


class Answer(Protocol):
    """An open file of a source. Methods raise Refused, Lost or Stopped."""

    start: int  # the place of its first byte: 0 or what was asked for
    total: int | None  # bytes of the whole file, where that is known
    validator: str | None  # of this very content, where the source has such a thing

    def read(self, size: int) -> bytes:
        """Up to ``size`` of the next bytes; none at the end, even if it comes too early."""

    def close(self) -> None:
        """Close it."""


class Store(Protocol):
    """A place that holds a dataset folder's files."""

    where: str  # to be printed

    def open(self, name: str, offset: int = 0, validator: str | None = None, size: int | None = None) -> Answer:
        """A file from byte ``offset``, or from 0 if it is not the one of ``validator`` any more.

        ``size``: no more than so many bytes will be read; None = all.
        """


def scheme_of(text: str) -> str:
    """``https`` of ``https://…`` in lower case; empty for a path."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else ""


def local_path(text: str) -> Path:
    """The folder that a path or a file:// address names. Raises DatasetError."""
    if scheme_of(text) != "file":
        return dataset_folder(text)
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise DatasetError(f"{shown(text)}: a file on another machine, wanted file:///path")
    return dataset_folder(unquote(parts.path))


def store_of(text: str, limits: Limits, stop: Stop) -> Store:
    """The place of a dataset. Raises DatasetError for one that cannot be, Refused for no address."""
    scheme = scheme_of(text)
    if scheme in ("", "file"):
        folder = local_path(text)
        if not folder.exists():
            raise DatasetError(f"{shown(text)}: no such folder; wanted a dataset folder")
        return FolderStore(folder)
    text = text.removesuffix(f"/{MANIFEST_NAME}")
    if scheme in SCHEMES:
        return HttpFolder(text, limits, stop)
    if scheme == "hf":
        from .hub import hub_source

        return hub_source(text, limits, stop)
    return ObjectStore(text, stop)


class FolderStore:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.where = folder, str(folder)

    def open(self, name: str, offset: int = 0, validator: str | None = None, size: int | None = None) -> FolderAnswer:
        """A file, if it is a regular one."""
        if not os.path.lexists(self.folder / name):
            raise Missing("missing")
        path = self.folder / name
        try:
            return FolderAnswer(open_regular(path), offset)
        except DatasetError as error:
            raise Refused(str(error).removeprefix(f"{path}: ")) from None


class FolderAnswer:
    """An open file of a folder."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self.descriptor = descriptor
        facts = os.fstat(descriptor)
        self.total: int | None = facts.st_size
        self.validator: str | None = None
        self.start = offset if offset <= facts.st_size else 0
        os.lseek(descriptor, self.start, os.SEEK_SET)

    def read(self, size: int) -> bytes:
        """The next bytes."""
        try:
            return os.read(self.descriptor, size)
        except OSError as error:
            raise Refused(f"cannot be read ({error.strerror})") from None

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


class ObjectStore:
    """A folder of an object store, or whatever else fsspec knows; credentials are found as its package finds them."""

    def __init__(self, text: str, stop: Stop) -> None:
        self.system, self.root = open_store(text)
        self.stop, self.where = stop, shown(text)

    def open(self, name: str, offset: int = 0, validator: str | None = None, size: int | None = None) -> StoreAnswer:
        """A file, from ``offset`` if its tag is the same."""
        kind = S3Answer if speaks_s3(self.system) else StoreAnswer
        return kind(self.system, f"{self.root}/{name}", offset, validator, self.stop, size)


class StoreAnswer:
    """A file of a store, asked for in blocks that grow."""

    def __init__(
        self, system: Any, path: str, offset: int, validator: str | None, stop: Stop, wanted: int | None = None
    ) -> None:
        self.system, self.path, self.stop = system, path, stop
        facts = asked(lambda: system.info(path))
        if facts.get("type") == "directory":
            raise Missing("a folder, wanted a file")
        size, tag = facts.get("size"), facts.get("ETag", facts.get("etag"))
        self.total: int | None = int(size) if size is not None else None
        self.validator = str(tag) if tag else None
        changed = validator is not None and self.validator != validator
        self.start = 0 if changed or offset > (self.total or 0) else offset
        self.place, self.block = self.start, memoryview(b"")
        self.end = self.total if wanted is None else min(self.start + wanted, self.total or self.start + wanted)

    def read(self, size: int) -> bytes:
        """The next bytes."""
        self.stop.check()
        if not self.block and (self.end is None or self.place < self.end):
            self.block = memoryview(self._more(size))
            self.place += len(self.block)
        part, self.block = self.block[:size], self.block[size:]
        return bytes(part)

    def _more(self, size: int) -> bytes:
        length = min(BLOCK, max(LEAST, (self.place - self.start) // 8))
        end = self.place + length if self.end is None else min(self.place + length, self.end)
        return bytes(asked(lambda: self.system.cat_file(self.path, start=self.place, end=end))[:length])

    def close(self) -> None:
        """Forget what was read ahead."""
        self.block = memoryview(b"")


class S3Answer(StoreAnswer):
    """A file of an S3 store, in one request whose bytes are taken as they come: nothing is lost by an end at any time."""

    body: Any = None

    def _more(self, size: int) -> bytes:
        from fsspec.asyn import sync

        if self.body is None:
            self._begin()
        return bytes(asked(lambda: sync(self.system.loop, self.body.read, size)))

    def _begin(self) -> None:
        bucket, key, _ = self.system.split_path(self.path)
        wanted = {"Bucket": bucket, "Key": key, **({"IfMatch": self.validator} if self.validator else {})}
        ranged = self.place > 0 or self.end != self.total
        if ranged:
            wanted["Range"] = f"bytes={self.place}-{'' if self.end is None else self.end - 1}"
        answer = asked(lambda: self.system.call_s3("get_object", **wanted))
        self.body = answer["Body"]
        if ranged and not str(answer.get("ContentRange")).startswith(f"bytes {self.place}-"):
            raise RangeRefused("the server sent another part than was requested")

    def close(self) -> None:
        """Let go of the connection, if it is not at its end."""
        if self.body is not None:
            self.system.loop.call_soon_threadsafe(self.body.close)


def speaks_s3(system: Any) -> bool:
    """Whether a filesystem of fsspec's hands on requests of Amazon's S3 API, as s3fs does."""
    return hasattr(system, "call_s3")


def open_store(text: str) -> tuple[Any, str]:
    """fsspec's filesystem for an address, and the path in it. Raises DatasetError, naming the extra that is missing."""
    scheme = scheme_of(text)
    try:
        import fsspec

        fsspec.get_filesystem_class(scheme)
        system, root = fsspec.core.url_to_fs(text)
    except ImportError as error:
        raise DatasetError(
            f"{shown(text)}: {scheme}:// needs a package that is not installed ({one_line(str(error))}); "
            f"{install('cloud')}, or the package that is named"
        ) from None
    except Exception as error:
        raise DatasetError(
            f"{shown(text)}: cannot be opened ({one_line(str(error))}); "
            "wanted a folder, http(s)://, hf://datasets/ORG/NAME, s3://, gs:// or another that fsspec knows"
        ) from None
    system.invalidate_cache()
    return system, root.rstrip("/")


def asked(call: Callable[[], Result]) -> Result:
    """Call a store and return its answer. Raises Missing, Refused or Lost, whatever its package raises."""
    try:
        return call()
    except FileNotFoundError:
        raise Missing("there is no such file, bucket or folder") from None
    except _FINAL as error:
        raise Refused(one_line(str(error)) or type(error).__name__) from None
    except Exception as error:
        text = f"{type(error).__name__}: {one_line(str(error))}"
        raise (Refused if "Credential" in type(error).__name__ else Lost)(text) from None
