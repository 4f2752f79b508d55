"""The files of rows that lie beside the shards: ``prompts.jsonl`` and ``sources.jsonl`` (docs/format.md).

A line is one canonical JSON object: ``{"group":"cat","prompt":"a cat"}`` (without ``group`` where there is none), or
``{"name":"train/7.jpg","sha256":"…"}``. A field of the shards names the row. Files are written and read line by line, so memory
stays flat for millions of rows: a reader keeps an offset of 8 bytes for each.

A table may be a stranger's. Size, count, lines and texts are bounded, and no text holds a character that could steer a terminal
or turn a line around. Every fault is one line that names the file and the line in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, overload

import numpy as np

from genrep.errors import DatasetError
from genrep.files import canonical_json, whole_file
from genrep.untrusted import open_regular, printable, read_at, shown

from .schema import MAX_TABLE_BYTES, MAX_TABLE_ROWS
from .strict_json import SHA256

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROMPTS_NAME, SOURCES_NAME = "prompts.jsonl", "sources.jsonl"
MAX_LINE = 64 << 10  # bytes, the newline among them
MAX_PROMPT = 10_000  # characters
MAX_GROUP = MAX_SOURCE = 1024
# C0, DEL, C1, separators of lines and paragraphs, bidirectional embeddings, overrides and isolates, lone surrogates.
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LEVELS = ("quick", "bytes", "full")
BLOCK = 4 << 20  # bytes that are read at a time


def text_fault(text: Any, most: int) -> str | None:
    """Why a value is no text of a table: None for 1 to ``most`` characters without ``FORBIDDEN`` ones."""
    if not isinstance(text, str) or not text:
        return f"{shown(text)}, wanted a text"
    if len(text) > most:
        return f"{len(text):,} characters, wanted at most {most:,}"
    if found := FORBIDDEN.search(text):
        return f"{shown(text)}: holds the control character {ascii(found[0])[1:-1]}, wanted none"
    return None


def name_fault(name: Any) -> str | None:
    """Why a value is no source's name: None for a relative path inside a folder."""
    fault = text_fault(name, MAX_SOURCE)
    if fault is None and any(part in ("", ".", "..") for part in name.split("/")):
        return f"{shown(name)}, wanted a relative path without '..'"
    return fault


def write_prompts(path: Path, prompts: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    """Write ``prompts.jsonl`` whole; returns its facts, as a manifest's ``tables`` has them.

    ``prompts`` are prompt and group (None = none), in order of the rows. Several processes may write one file at once.
    Raises DatasetError for what the format cannot hold (names the row), OSError where the disk fails.
    """
    return _write(path, _prompt_rows(prompts), PROMPTS_NAME)


def write_sources(path: Path, sources: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Write ``sources.jsonl`` whole: relative names and sha256 of files. As ``write_prompts``."""
    return _write(path, _source_rows(sources), SOURCES_NAME)


def prompts_facts(prompts: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    """The facts of the file that ``write_prompts`` would write. Nothing is written."""
    return _facts(PROMPTS_NAME, _prompt_rows(prompts))


def sources_facts(sources: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The facts of the file that ``write_sources`` would write. Nothing is written."""
    return _facts(SOURCES_NAME, _source_rows(sources))


def _prompt_rows(prompts: Iterable[tuple[str, str | None]]) -> Iterator[dict[str, Any]]:
    return ({"prompt": prompt, **({} if group is None else {"group": group})} for prompt, group in prompts)


def _source_rows(sources: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    return ({"name": name, "sha256": sha256} for name, sha256 in sources)


def _write(path: Path, rows: Iterable[dict[str, Any]], name: str) -> dict[str, Any]:
    with whole_file(path, shared=True) as file:
        return _facts(name, rows, path, file.write)


def _facts(
    name: str, rows: Iterable[dict[str, Any]], path: Path | None = None, write: Callable[[bytes], Any] | None = None
) -> dict[str, Any]:
    """Facts of the file of these rows, whose lines ``write`` receives. Raises DatasetError, naming the row."""
    where = Path(name) if path is None else path
    digest, size, count = hashlib.sha256(), 0, 0
    for row in rows:
        if fault := _row_fault(row, name):
            raise DatasetError(f"{printable(str(where))}: row {count}: {fault}")
        line = canonical_json(row) + b"\n"
        if write is not None:
            write(line)
        digest.update(line)
        size, count = size + len(line), count + 1
        if count > MAX_TABLE_ROWS or size > MAX_TABLE_BYTES:
            raise DatasetError(_too_large(where, f"more than {MAX_TABLE_ROWS:,} rows or {MAX_TABLE_BYTES} bytes"))
    if not count:
        raise DatasetError(f"{printable(str(where))}: no rows, wanted 1 at least")
    return {"name": name, "sha256": digest.hexdigest(), "bytes": size, "count": count}


def _too_large(path: Path, found: str) -> str:
    return f"{printable(str(path))}: {found}, wanted at most {MAX_TABLE_ROWS:,} rows and {MAX_TABLE_BYTES} bytes"


def _row_fault(row: dict[str, Any], name: str) -> str | None:
    """Why an object is no row of this table; None if it is one."""
    if name == PROMPTS_NAME:
        faults = [("prompt", text_fault(row.get("prompt"), MAX_PROMPT))]
        faults += [("group", text_fault(row["group"], MAX_GROUP))] if "group" in row else []
        keys = {"prompt", "group"}
    else:
        sha256 = row.get("sha256")
        right = isinstance(sha256, str) and SHA256.fullmatch(sha256)
        faults = [("name", name_fault(row.get("name")))]
        faults += [] if right else [("sha256", f"{shown(sha256)}, wanted 64 lower-case hexadecimal digits")]
        keys = {"name", "sha256"}
    if unknown := sorted(row.keys() - keys):
        return f"has the unknown key {shown(unknown[0])}, wanted only {sorted(keys)}"
    return next((f"{key} is {fault}" for key, fault in faults if fault), None)


def _parsed(line: bytes, name: str) -> dict[str, Any]:
    """A line without its newline. Raises ValueError with the reason."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except ValueError:
        raise ValueError(f"not JSON: {shown(line[:80].decode(errors='replace'))}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{shown(row)}, wanted an object")
    if fault := _row_fault(row, name):
        raise ValueError(fault)
    if canonical_json(row) != line:
        raise ValueError("not canonical JSON (sorted keys, no spaces, nothing escaped without need)")
    return row


class Table(Sequence[str]):
    """A table's texts as a sequence. Only the lines asked for are read; each is checked when it is read.

    Safe to use from several threads, to fork and to pickle.

    Raises:
        DatasetError: the file is missing, too large, has another number of lines than ``rows``, or a line that is none.
    """

    name: str  # of the file, by which its rows are known
    key: str  # of the text in a row

    def __init__(self, path: Path | str, rows: int | None = None) -> None:
        self.path, self.rows = Path(path), rows
        self.descriptor = open_regular(self.path)
        self.close = weakref.finalize(self, os.close, self.descriptor)
        self._lock = Lock()
        self._ends: NDArray[np.int64] | None = None  # where the lines end, their newlines included

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.rows)

    def _lines(self) -> NDArray[np.int64]:
        with self._lock:
            if self._ends is None:
                ends = _line_ends(self.descriptor, self.path)
                if self.rows is not None and len(ends) != self.rows:
                    raise self.fault(f"{len(ends)} rows, the manifest says {self.rows}")
                self._ends = ends
            return self._ends

    def fault(self, reason: str) -> DatasetError:
        """The error to raise about this file."""
        return DatasetError(f"{printable(str(self.path))}: {reason}")

    def __len__(self) -> int:
        return len(self._lines())

    def row(self, i: int) -> dict[str, Any]:
        """The object of row ``i``. Raises IndexError outside the table, DatasetError for a line that is none."""
        ends = self._lines()
        if not -len(ends) <= i < len(ends):
            raise IndexError(f"row {i} of {len(ends)}")
        i = int(i) % len(ends)
        first, last = int(ends[i - 1]) if i else 0, int(ends[i])
        data = bytes(read_at(self.descriptor, last - first, first))
        try:
            if len(data) != last - first or data[-1:] != b"\n":
                raise ValueError("the file was cut or changed while it was read")
            return _parsed(data[:-1], self.name)
        except ValueError as reason:
            raise self.fault(f"line {i + 1}: {reason}") from None

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return str(self.row(i)[self.key])


class Prompts(Table):
    """``prompts[row]`` is a prompt, ``prompts.group(row)`` the name of its group."""

    name, key = PROMPTS_NAME, "prompt"

    def group(self, i: int) -> str | None:
        """The group of row ``i``; None where it has none."""
        group = self.row(i).get("group")
        return None if group is None else str(group)


class Sources(Table):
    """``sources[row]`` is the relative name of a real image, ``sources.sha256(row)`` the digest of its file."""

    name, key = SOURCES_NAME, "name"

    def sha256(self, i: int) -> str:
        """Hex sha256 of the file of row ``i``."""
        return str(self.row(i)["sha256"])


KINDS: dict[str, type[Table]] = {PROMPTS_NAME: Prompts, SOURCES_NAME: Sources}


def _line_ends(descriptor: int, path: Path) -> NDArray[np.int64]:
    """One past each line's newline. Raises DatasetError for a file beyond the limits."""
    size = os.fstat(descriptor).st_size
    if size > MAX_TABLE_BYTES:
        raise DatasetError(_too_large(path, f"{size} bytes"))
    found: list[NDArray[np.int64]] = []
    count = last = offset = 0
    while offset < size:
        block = read_at(descriptor, BLOCK, offset)
        if not block:
            break
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + (offset + 1)
        steps = np.diff(ends, prepend=last)
        if (steps > MAX_LINE).any() or offset + len(block) - (ends[-1] if len(ends) else last) > MAX_LINE:
            wrong = count + (int((steps > MAX_LINE).argmax()) if (steps > MAX_LINE).any() else len(steps))
            raise DatasetError(f"{printable(str(path))}: line {wrong + 1}: more than {MAX_LINE} bytes")
        count += len(ends)
        if count > MAX_TABLE_ROWS:
            raise DatasetError(_too_large(path, f"more than {MAX_TABLE_ROWS:,} rows"))
        found.append(ends)
        last = int(ends[-1]) if len(ends) else last
        offset += len(block)
    if not count or last != offset:
        raise DatasetError(f"{printable(str(path))}: {'no newline ends its last line' if offset else 'empty'}")
    return np.concatenate(found)


def table_faults(path: Path, facts: Mapping[str, Any], level: str = "full") -> Iterator[str]:
    """What is wrong with a table's file, given its entry in a manifest: the first fault of each kind, without the path.

    ``quick``: a regular file of the stated size. ``bytes``: + its sha256. ``full``: + every line and their number.
    """
    try:
        descriptor = open_regular(path)
    except DatasetError as error:
        yield str(error).removeprefix(f"{printable(str(path))}: ")
        return
    try:
        size = os.fstat(descriptor).st_size
        if size != facts["bytes"]:
            yield f"{size} bytes, the manifest says {facts['bytes']}"
            return
        with open(descriptor, "rb", closefd=False) as file:
            if level != "quick":
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != facts["sha256"]:
                    yield f"sha256 is {digest}, the manifest says {facts['sha256']}"
                    return
            if level == "full":
                file.seek(0)
                yield from _content_faults(file, facts)
    except OSError as error:
        yield f"{error.strerror or error}"
    finally:
        os.close(descriptor)


def _content_faults(file: IO[bytes], facts: Mapping[str, Any]) -> Iterator[str]:
    count = 0
    while line := file.readline(MAX_LINE + 1):
        count += 1
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"more than {MAX_LINE} bytes")
            if line[-1:] != b"\n":
                raise ValueError("no newline ends it")
            _parsed(line[:-1], facts["name"])
        except ValueError as reason:
            yield f"line {count}: {reason}"
            return
        if count > facts["count"]:
            break
    if count != facts["count"]:
        yield f"{'more' if count > facts['count'] else count} rows, the manifest says {facts['count']}"


def check_table(path: Path, facts: Mapping[str, Any], level: str = "full") -> None:
    """Raise DatasetError, one line that names the file, with the first of ``table_faults``."""
    for fault in table_faults(Path(path), facts, level):
        raise DatasetError(f"{printable(str(path))}: {fault}")


def table_facts(path: Path, name: str) -> dict[str, Any]:
    """The facts of a table's file that is there, as a manifest states them. Reads all of it, and checks no line.

    Raises DatasetError for a file that is missing or beyond the limits.
    """
    with open(open_regular(path), "rb") as file:
        count = len(_line_ends(file.fileno(), path))
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"name": name, "sha256": sha256, "bytes": file.tell(), "count": count}


def open_table(folder: Path, facts: Mapping[str, Any]) -> Table:
    """A table of a manifest in its folder. Raises DatasetError where it is missing or of another size."""
    table = KINDS[facts["name"]](folder / facts["name"], facts["count"])
    size = os.fstat(table.descriptor).st_size
    if size != facts["bytes"]:
        raise table.fault(f"{size} bytes, the manifest says {facts['bytes']}")
    return table
