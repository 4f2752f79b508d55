"""The last step of a build: contact sheet, card and manifest, once all shards are there. Needs no generator.

Several processes, perhaps on several machines, build one folder together. Locks on single bytes of ``recipe.json`` say who
writes what: they leave no file, die with the process, and most network filesystems carry them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from genrep.errors import DatasetError, ManifestError
from genrep.look.sheets import BLOCK_GAP, GAP, LINE, MARGIN, Band, centred, draw_sheet, save_png, tile_shape
from genrep.untrusted import label

from .beton import Beton
from .cards import CardConfig, write_card
from .contents import read_field
from .layout import largest_shape, varies
from .manifest import (
    MANIFEST_NAME,
    Manifest,
    Shard,
    build_manifest,
    read_manifest,
    read_shard_record,
    write_manifest,
    write_shard_record,
)
from .schema import (
    MAX_SHARDS,
    SOURCE_FIELD,
    TABLES,
    check_fields,
    check_stored,
    check_table_facts,
    shard_name,
    shard_record_name,
    wanted_tables,
)
from .strict_json import read_json, want_integer, want_list, want_object
from .tables import Table, check_table, open_table, table_facts

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
        """Try to lock a shard for writing; yields whether this worked."""
        taken = self._set(fcntl.F_WRLCK, FIRST_SHARD_BYTE + number, wait=False)
        try:
            yield taken
        finally:
            if taken:
                self._set(fcntl.F_UNLCK, FIRST_SHARD_BYTE + number, wait=False)

    @contextmanager
    def manifest(self) -> Iterator[None]:
        """Lock the finishing of the dataset; waits for other processes, which take seconds."""
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


RECIPE_NAME = "recipe.json"  # the resolved recipe, written first
BUILD_NAME = "build.json"  # what the manifest says besides, known before the first shard
MAX_BYTES = 64 << 20
MAX_NAMED_SHARDS = 5
FACTS = ("device", "batch_size", "threads", "machine", "packages")  # of the shards, gathered under the manifest's build


def finish(folder: Path, *, known: Manifest | None = None, facts: Mapping[str, Any] | None = None) -> Manifest:
    """Write contact sheet, card and manifest of a folder whose shards are all done; returns the manifest, also if it is
    there already. Safe to be called by several processes at once.

    ``known``: the manifest whose shards these have been found to be, byte for byte; it and its records are written as they
    are. ``facts`` are added to a new manifest's ``build``.

    Raises:
        DatasetError: shards are missing (says how many and which), a table that the fields name is missing or not the recipe's,
            or the folder is not that of a build.
    """
    recipe, build = read_plan(folder)
    with FolderLocks(folder / RECIPE_NAME) as locks, locks.manifest():
        if (folder / MANIFEST_NAME).exists():
            return read_manifest(folder)
        shards = list(done_shards(folder, recipe))
        missing = sorted(set(range(num_shards(recipe))) - {shard.number for shard in shards})
        if missing:
            names = ", ".join(shard_name(number) for number in missing[:MAX_NAMED_SHARDS])
            more = f" and {len(missing) - MAX_NAMED_SHARDS} more" if len(missing) > MAX_NAMED_SHARDS else ""
            raise DatasetError(
                f"{folder}: {len(missing)} of {num_shards(recipe)} shards are not done ({names}{more}); "
                "run the build that makes them"
            )
        tables = found_tables(folder, recipe, build["fields"])
        for leftover in folder.glob(".*.tmp"):  # every shard is done: nobody writes any more
            leftover.unlink(missing_ok=True)
        write_contact_sheet(folder, build["fields"], build["classes"], shards, tables)
        manifest = known or build_manifest(
            recipe=recipe,
            fields=build["fields"],
            classes=build["classes"],
            shards=shards,
            build={**build["facts"], **gathered(shards), **(facts or {})},
            tables=tables,
        )
        for shard in known.shards if known else ():
            write_shard_record(folder, shard)
        write_card(CardConfig(folder=folder), manifest)
        write_manifest(folder, manifest)
        return manifest


def found_tables(folder: Path, recipe: dict[str, Any], fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The facts of the tables that these fields name rows of, checked line by line. Raises DatasetError."""
    tables = []
    for name in wanted_tables(fields):
        facts = table_facts(folder / name, name)
        check_table_facts(facts, name, recipe, str(folder))
        check_table(folder / name, facts)
        tables.append(facts)
    return tables


def read_plan(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A build's ``recipe.json`` and ``build.json``. Raises ManifestError if they are not what a build writes."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; wanted the folder of a build")
    path = folder / RECIPE_NAME
    recipe = want_object(
        read_json(path, MAX_BYTES), str(path), frozenset({"num_pairs", "pairs_per_shard", "seed"}), open_ended=True
    )
    want_integer(recipe["num_pairs"], f"{path}: num_pairs", 1)
    want_integer(recipe["pairs_per_shard"], f"{path}: pairs_per_shard", 1)
    if num_shards(recipe) > MAX_SHARDS:
        raise ManifestError(
            f"{path}: {recipe['num_pairs']} pairs in shards of {recipe['pairs_per_shard']} are {num_shards(recipe)} shards, "
            f"wanted at most {MAX_SHARDS}"
        )
    path = folder / BUILD_NAME
    build = want_object(
        read_json(path, MAX_BYTES), str(path), frozenset({"fields", "classes", "facts"}), open_ended=False
    )
    check_fields(build["fields"], str(path))
    check_stored(build["fields"], recipe, str(path))
    want_list(build["classes"], f"{path}: classes")
    want_object(build["facts"], f"{path}: facts", frozenset(), open_ended=True)
    return recipe, build


def num_shards(recipe: dict[str, Any]) -> int:
    """Shards that a recipe makes."""
    return int(-(-recipe["num_pairs"] // recipe["pairs_per_shard"]))


def done_shards(folder: Path, recipe: dict[str, Any]) -> Iterator[Shard]:
    """The shards that are whole, in order. A shard without its record does not exist."""
    for number in range(num_shards(recipe)):
        shard = done_shard(folder, recipe, number)
        if shard is not None:
            yield shard


def done_shard(folder: Path, recipe: dict[str, Any], number: int) -> Shard | None:
    """One shard if it is done: its record was written, and the file has the size that it states."""
    record_path, path = folder / shard_record_name(number), folder / shard_name(number)
    if not record_path.exists():
        return None
    try:
        shard = read_shard_record(record_path)
    except ManifestError:
        return None
    first = number * recipe["pairs_per_shard"]
    wanted = (first, min(recipe["pairs_per_shard"], recipe["num_pairs"] - first))
    whole = path.is_file() and path.stat().st_size == shard.bytes
    return shard if whole and (shard.first_index, shard.count) == wanted else None


def gathered(shards: list[Shard]) -> dict[str, Any]:
    """The facts in the shards' records about how they were made, each different value once."""
    # A fact like any other: it may be whatever JSON a record holds.
    seconds = [shard.facts["seconds"] for shard in shards if type(shard.facts.get("seconds")) in (int, float)]
    gathered: dict[str, Any] = {"seconds": round(float(sum(seconds)), 3)}
    for name in FACTS:
        values: list[Any] = []
        for shard in shards:
            if name in shard.facts and shard.facts[name] not in values:
                values.append(shard.facts[name])
        gathered[name] = values
    return gathered


SHEET_NAME = "contact-sheet.png"
SHEET_WIDTH, SHEET_HEIGHT = 1240, 1000  # pixels, about
MAX_COLUMNS, MAX_ROWS = 6, 8
MAX_CAPTION = 60  # characters of a prompt
VARYING_TILE = 192  # pixels of the square that a picture is shown in where each has a size of its own


def write_contact_sheet(
    folder: Path,
    fields: list[dict[str, Any]],
    classes: list[str],
    shards: list[Shard],
    tables: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the first pairs, anchor and positives side by side, as a PNG; returns its path.

    Captions are prompts or names of real anchors where there are ``tables``, else classes.
    """
    images = [field for field in fields if field["kind"] == "image"]
    height, width, _ = largest_shape(images[0])
    if varies(images[0]):
        height, width = min(height, VARYING_TILE), min(width, VARYING_TILE)
    tile, total = tile_shape(height, width), sum(shard.count for shard in shards)
    pitch = len(images) * (tile[1] + GAP) + (BLOCK_GAP - GAP if len(images) > 1 else 0)
    columns = min(max((SHEET_WIDTH - 2 * MARGIN) // pitch, 1), MAX_COLUMNS, total)
    rows = min(max(SHEET_HEIGHT // (tile[0] + LINE + 2 * GAP), 1), MAX_ROWS)
    opened = {TABLES[facts["name"]][0]: open_table(folder, facts) for facts in tables}
    names = [field["name"].replace("_", " ") for field in images]
    names[0] = "real anchor" if SOURCE_FIELD in opened else names[0]
    pictures, captions = [], []
    for beton, i in islice(_samples(folder, fields, shards), columns * rows):
        pictures.append([centred(read_field(beton, i, field["name"]), height, width) for field in images])
        captions.append(_row_caption(beton, i, opened) or _caption(beton, i, classes, pairs=len(images) > 1))
    starts = range(0, len(pictures), columns)
    band = Band(
        rows=[[picture for group in pictures[start : start + columns] for picture in group] for start in starts],
        names=names * columns,
        block=len(images),
        captions=[captions[start : start + columns] for start in starts],
    )
    path = folder / SHEET_NAME
    save_png(path, draw_sheet([band]))
    return path


def _samples(folder: Path, fields: list[dict[str, Any]], shards: list[Shard]) -> Iterator[tuple[Beton, int]]:
    """All samples in order; a shard is opened when it is needed."""
    for shard in shards:
        beton = Beton(folder / shard.name, fields, shard.count, shard.first_index)
        yield from ((beton, i) for i in range(shard.count))


def _row_caption(beton: Beton, i: int, tables: Mapping[str, Table]) -> str | None:
    """A sample's index and its prompt, or the name of its real anchor's file."""
    for name, table in tables.items():
        row = int(read_field(beton, i, name))
        if not 0 <= row < len(table):
            raise beton.fault(f"sample {i} has {name} {row}, wanted 0 to {len(table) - 1}")
        text = table[row]
        return f"{int(read_field(beton, i, 'index'))}: {_drawn(text[:MAX_CAPTION])}"
    return None


def _drawn(text: str) -> str:
    """A text in letters that the sheet's font has, which are ASCII's: accents are left out, others become ``?``."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in plain)


def _caption(beton: Beton, i: int, classes: list[str], *, pairs: bool) -> str:
    """A sample's index, and the class that it has."""
    number, index = int(read_field(beton, i, "label")), int(read_field(beton, i, "index"))
    if 0 <= number < len(classes):
        return f"{index}: {label(classes[number])}"
    return f"{'pair' if pairs else 'image'} {index}"
