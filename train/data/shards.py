"""All shards of a dataset as one table of samples, read where they lie.

``Beton`` checks each file's tables; what is kept of them are the numbers, and of an image or latent a pointer. This module and
``kernels`` take the place of FFCV's ``Loader``, which knows one file, orders that a resume cannot repeat, and buffers that it
reuses.

Every file is memory-mapped, never copied into a process: a raw image or a latent is one copy out of the page cache, which
all ranks of a machine share and which the system gives back when memory is short. The price is a fault, and a disk's read if
it is not cached, at the first touch of a page, and 2 MB of page tables per GB and rank. A copy in RAM would save those, but
cost the dataset's size once a rank and a whole reading before the first step; where the set fits in memory, a mapped one is
as fast from its second epoch on, and where it does not, ``window`` bounds what is in use. A file that is cut while it is
mapped kills the process (SIGBUS), as with FFCV.
"""

from __future__ import annotations

import ctypes
import mmap
import resource
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest import Beton, Manifest, Shard, layout, read_manifest
from genrep.datasets_manifest.layout import IN_RECORDS, is_jpeg, stored_fields
from genrep.datasets_manifest.schema import ROW_FIELD, TABLES
from genrep.errors import DatasetError
from genrep.files import digest_json
from genrep.images.reading import fit

from .fields import VARYING, Destination, Field, Rows
from .kernels import REASONS, copier, jpeg_decoder
from .latents import Latents

SPARE_DESCRIPTORS = 256
MANY_BYTES = 1 << 32  # what a 32-bit pointer does not reach
MAX_NAMED = 3


class Shards:
    """Any rows of any field of a finished dataset, by position. Safe to read from several threads.

    ``bounds`` are the rows at which shards begin (shape ``(S + 1,)``), ``shard_bytes`` their sizes. ``span`` is the number of
    indices of the whole dataset, whether all its shards are here or not. ``shape`` is that of all images, or VARYING: then
    ``read`` cuts and resizes them (``genrep.images.reading.fit``) to ``fitted`` (height, width); without it only ``picture``
    reads.

    Raises DatasetError if a shard is missing (unless ``partial``), of another size than the manifest says, or has wrong tables.
    Costs 1 s and 20 MB per million raw pairs (``benchmarks/loading.py --start-up``).
    """

    def __init__(self, folder: Path, *, partial: bool = False, fitted: tuple[int, int] | None = None) -> None:
        self.where = folder
        self.manifest = manifest = read_manifest(folder)
        present = _present(folder, manifest, partial)
        self.paths = [folder / shard.name for shard in present]
        self.identity = manifest.id + ("" if len(present) == len(manifest.shards) else _part(present))
        self.span = manifest.num_pairs
        self.classes = tuple(manifest.classes)
        self.bounds = np.cumsum([0, *(shard.count for shard in present)]).astype(np.int64)
        self.shard_bytes = np.array([shard.bytes for shard in present], dtype=np.int64)
        self.fields = {field["name"]: _field(field) for field in manifest.fields}
        self._fitted = fitted if self.fields["anchor"].shape == VARYING else None
        if self._fitted is not None:
            self.identity += f"-fitted-{self._fitted[0]}x{self._fitted[1]}"
            self.fields = {name: _fitted(field, self._fitted) for name, field in self.fields.items()}
        self.shape = self.fields["anchor"].shape
        self.num_positives = manifest.num_positives
        self._stored = {field["name"]: column for column, field in enumerate(stored_fields(manifest.fields))}
        self._jpegs = {field["name"] for field in manifest.fields if is_jpeg(field)}
        self._latents = Latents(folder, manifest)
        self._bounds = {"label": (-1, len(self.classes) - 1)}
        for table in manifest.tables:
            self._bounds[TABLES[table["name"]][0]] = (0, table["count"] - 1)
        self._per_shard = present[0].count if len(present) > 1 else max(1, int(self.bounds[-1]))
        self._first = np.array([shard.first_index for shard in present], dtype=np.int64)
        self._load(present)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def _load(self, present: list[Shard]) -> None:
        """Check and map every file, and keep the pointers of its tables."""
        _allow_open_files(len(present))
        manifest, count = self.manifest, len(self)
        small = all(shard.bytes < MANY_BYTES for shard in present)
        self._pointers: NDArray[Any] = np.empty((count, len(self._stored)), dtype=np.uint32 if small else np.uint64)
        self._jpeg_bytes = np.empty((count, len(manifest.image_fields)), dtype=np.uint32) if self._jpegs else None
        images, varies = len(manifest.image_fields), any(map(layout.varies, manifest.image_fields))
        self._sides = np.empty((count, images, 2), dtype=np.uint16) if varies else None
        numbers = [field for field in manifest.fields if field["kind"] in IN_RECORDS and field["name"] != "index"]
        self._numbers = {field["name"]: np.empty(count, dtype=_kept(field)) for field in numbers}
        self._maps: list[mmap.mmap] = []
        for path, shard, start in zip(self.paths, present, self.bounds.tolist()):
            with Beton(path, manifest.fields, shard.count, shard.first_index) as beton:
                if beton.size != shard.bytes:
                    raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
                self._maps.append(mmap.mmap(beton.descriptor, beton.size, prot=mmap.PROT_READ))
            self._keep_tables(beton, slice(start, start + shard.count))
        mapped = [np.frombuffer(part, dtype=np.uint8) for part in self._maps]
        self._bases = np.array([part.ctypes.data for part in mapped], dtype=np.int64)
        self._lengths = np.array([len(part) for part in mapped], dtype=np.int64)

    def _keep_tables(self, beton: Beton, rows: slice) -> None:
        for name, column in self._stored.items():
            values = beton.samples[name]
            self._pointers[rows, column] = values if values.dtype.names is None else values["data_ptr"]
            if self._sides is not None and values.dtype.names is not None:
                self._sides[rows, column, 0], self._sides[rows, column, 1] = values["height"], values["width"]
        for name, kept in self._numbers.items():
            values = beton.samples[name]
            if (bounds := self._bounds.get(name.rstrip("0123456789").rstrip("_"))) is not None:
                _check_range(beton, name, values, *bounds)
            with np.errstate(over="ignore"):  # beyond float32 is infinite
                kept[rows] = values
        if self._jpeg_bytes is not None:
            for name in self._jpegs:
                self._jpeg_bytes[rows, self._stored[name]] = beton.jpeg_sizes[name]

    def indices(self, rows: Rows) -> NDArray[np.int64]:
        """The samples' numbers in the dataset: the field ``index``."""
        shards = rows // self._per_shard
        return rows - self.bounds[shards] + self._first[shards]

    def numbers(self, name: str, rows: Rows) -> NDArray[Any]:
        """Values of an int or float field. Shape ``(len(rows),)``."""
        return self.indices(rows) if name == "index" else self._numbers[name][rows]

    def read(self, rows: Rows, places: Rows, slots: list[Destination]) -> None:
        """Copy or decode the slots' fields of ``rows``, in one pass over the samples for each of the two.

        Latents that are not stored are made again. Raises DatasetError where they cannot be, and for a picture that does not
        decode.
        """
        if self._fitted is not None:
            slots = self._read_fitted(rows, places, slots)
        if latents := [slot for slot in slots if slot.names[0] in self._latents.names]:
            self._latents.make(self.indices(rows), places, latents)
            slots = [slot for slot in slots if slot.names[0] not in self._latents.names]
        jpegs = [slot for slot in slots if slot.names[0] in self._jpegs]
        others = [slot for slot in slots if slot.names[0] not in self._jpegs]
        where = (self._pointers, self._bases, self._lengths, self._per_shard, rows, places)
        if others:
            columns, targets, strides = self._columns(others, len(rows))
            sizes = np.array([slot.out[:1].nbytes for slot in others], dtype=np.int64)
            self._check(copier()(*where, columns, sizes, targets, strides), others, rows, columns)
        if jpegs:
            columns, targets, strides = self._columns(jpegs, len(rows))
            height, width, _ = self.shape
            fault = jpeg_decoder()(where[0], self._jpeg_bytes, *where[1:], columns, height, width, targets, strides)
            self._check(fault, jpegs, rows, columns)

    def _read_fitted(self, rows: Rows, places: Rows, slots: list[Destination]) -> list[Destination]:
        """Cut and resize the images among the slots' fields. Returns the slots of other fields."""
        from PIL import Image

        assert self._fitted is not None
        images = [slot for slot in slots if slot.out.dtype == np.uint8]
        for slot in images:
            for row, place, name in zip(rows.tolist(), places.tolist(), slot.chosen(len(rows))):
                slot.out[place] = fit(Image.fromarray(self.picture(row, name)), self._fitted)
        return [slot for slot in slots if slot.out.dtype != np.uint8]

    def sides(self, rows: Rows, names: Sequence[str]) -> tuple[Rows, Rows]:
        """Height and width of the image ``names[i]`` of row ``rows[i]``, as stored. Shape: ``(len(rows),)`` each."""
        if self._sides is None:
            height, width, _ = self.shape
            return np.full(len(rows), height), np.full(len(rows), width)
        found = self._sides[rows, [self._stored[name] for name in names]].astype(np.int64)
        return found[:, 0], found[:, 1]

    def shorter_sides(self) -> NDArray[np.integer[Any]]:
        """Shorter sides of each row's anchor. Shape: ``(len(self),)``."""
        if self._sides is None or self._fitted is not None:
            return np.full(len(self), min(self.shape[:2]))
        return self._sides[:, 0].min(axis=1)

    def picture(self, row: int, name: str) -> NDArray[np.uint8]:
        """An image as it is stored. Shape ``(H, W, 3)``. Raises DatasetError if it does not decode."""
        rows, column = np.array([row], dtype=np.int64), self._stored[name]
        height, width = (int(side[0]) for side in self.sides(rows, [name]))
        image = np.empty((1, height, width, 3), dtype=np.uint8)
        place, columns = np.zeros(1, dtype=np.int64), np.array([[column]], dtype=np.int64)
        targets, strides = np.array([image.ctypes.data], dtype=np.int64), np.zeros(1, dtype=np.int64)
        where = (self._bases, self._lengths, self._per_shard, rows, place, columns)
        if name in self._jpegs:
            fault = jpeg_decoder()(self._pointers, self._jpeg_bytes, *where, height, width, targets, strides)
        else:
            sizes = np.array([image.nbytes], dtype=np.int64)
            fault = copier()(self._pointers, *where, sizes, targets, strides)
        self._check(fault, [Destination((name,), image)], rows, columns)
        return image[0]

    def _columns(self, slots: list[Destination], count: int) -> tuple[Rows, Rows, Rows]:
        """For each row and slot the column of the table; the slots' addresses and the distances of their rows."""
        columns = np.empty((count, len(slots)), dtype=np.int64)
        for j, slot in enumerate(slots):
            known = [self._stored[name] for name in slot.names]
            columns[:, j] = known[0] if slot.choice is None else np.array(known)[slot.choice]
        targets = np.array([slot.out.ctypes.data for slot in slots], dtype=np.int64)
        return columns, targets, np.array([slot.out.strides[0] for slot in slots], dtype=np.int64)

    def _check(self, fault: int, slots: list[Destination], rows: Rows, columns: Rows) -> None:
        if not fault:
            return
        place, reason = divmod(fault, 8)
        i, j = divmod(place, len(slots))
        row, column = int(rows[i]), int(columns[i, j])
        name = next(name for name, known in self._stored.items() if known == column)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        shard = row // self._per_shard
        sample = f"sample {row - self.bounds[shard]}: {name}, at byte {self._pointers[row, column]}"
        raise DatasetError(f"{self.paths[shard]}: {sample}, {REASONS[reason]}; run genrep-manifest verify for details")

    def will_need(self, shard: int) -> None:
        """Read a shard into the page cache, if the system finds room; takes as long as the disk does. Other threads run."""
        self._advise(shard, mmap.MADV_WILLNEED)

    def done_with(self, shard: int) -> None:
        """Let go of a shard's pages: they no longer count as this process's memory, and the system may reuse them."""
        self._advise(shard, mmap.MADV_DONTNEED)

    def _advise(self, shard: int, advice: int) -> None:
        _madvise()(int(self._bases[shard]), int(self._lengths[shard]), advice)  # advice only: failing changes nothing


@cache
def _madvise() -> Any:
    """The system's, because Python's mmap.madvise holds the interpreter lock while the disk is read."""
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


def _present(folder: Path, manifest: Manifest, partial: bool) -> list[Shard]:
    missing = [shard.name for shard in manifest.shards if not (folder / shard.name).exists()]
    if missing and not partial:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        named = f"{', '.join(missing[:MAX_NAMED])}{more}"
        raise DatasetError.naming(
            "{}: {} missing of {} shards; wanted all, or {partial} to read the rest",
            folder,
            named,
            len(manifest.shards),
        )
    if len(missing) == len(manifest.shards):
        raise DatasetError(f"{folder}: not one of its {len(manifest.shards)} shards is here")
    return [shard for shard in manifest.shards if shard.name not in set(missing)]


def _part(present: list[Shard]) -> str:
    """Which shards a partial set has, for its identity."""
    return f"-part-{digest_json([shard.name for shard in present])[:16]}"


def _check_range(beton: Beton, name: str, values: NDArray[Any], least: int, most: int) -> None:
    wrong = (values < least) | (values > most)
    if wrong.any():
        i = int(wrong.argmax())
        raise beton.fault(f"sample {i} has {name} {values[i]}, wanted {least} to {most}")


def _kept(field: dict[str, Any]) -> type[np.number[Any]]:
    """How a number is kept: rows of features have no known bound; labels and rows of tables have."""
    if field["kind"] == "float":
        return np.float32
    return np.int64 if field["name"] == ROW_FIELD else np.int32


def _field(field: dict[str, Any]) -> Field:
    if field["kind"] in IN_RECORDS:
        return Field(shape=(), dtype=np.dtype(np.int64 if field["kind"] == "int" else np.float32))
    dtype = np.dtype(np.uint8) if field["kind"] == "image" else np.dtype("<f4")
    return Field(shape=VARYING if layout.varies(field) else tuple(field["shape"]), dtype=dtype)


def _fitted(field: Field, size: tuple[int, int]) -> Field:
    return Field(shape=(*size, 3), dtype=field.dtype) if field.shape == VARYING else field


def _allow_open_files(count: int) -> None:
    """Python keeps a descriptor per mapping: raise the soft limit where a large set needs it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
