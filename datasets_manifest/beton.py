"""Check the structure of an FFCV file, and read single values from a file that passed.

FFCV trusts its tables: a pointer outside the file, a wrong size or an unfinished file end in wrong images, a heap
overflow or a segmentation fault (reference: docs/format.md, "Why the tables are checked"). So nothing is handed to FFCV
before it has passed here. This module neither imports ffcv nor maps the file: it reads the tables, whose size is bounded
first, and compares them with the manifest's field table.

Every pointer in the records is compared with the allocation table: each is used once and inside its page; none overlap.
"""

from __future__ import annotations

import math
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import DatasetError
from genrep.untrusted import open_regular, read_at, read_into, shown

from . import layout
from .schema import MIN_VARYING_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_pointers(
    samples: NDArray[Any],
    table: NDArray[Any],
    stored: list[dict[str, Any]],
    page_size: int,
    pages_start: int,
    pages_end: int,
) -> NDArray[np.uint64]:
    """Sizes of the stored values, shape ``(samples, stored fields)``. Raises ValueError with the reason.

    Offsets and sizes are in bytes; ``table`` has exactly one row per sample and stored field. FFCV looks a pointer's
    size up by binary search and its page up by the row's sample, so both must agree with the records exactly.
    """
    _check_rows(table, page_size, pages_start, pages_end)
    by_pointer = np.argsort(table["ptr"], kind="stable")  # stable: linear on the sorted tables that a writer leaves
    starts, sizes = table["ptr"][by_pointer], table["size"][by_pointer]
    overlap = starts[:-1] + sizes[:-1] > starts[1:]
    if overlap.any():
        k = int(overlap.argmax())
        raise ValueError(f"allocation table: bytes at {starts[k]} and {starts[k + 1]} overlap")

    pointers = np.empty((len(samples), len(stored)), dtype=np.uint64)
    for j, field in enumerate(stored):
        column = samples[field["name"]]
        pointers[:, j] = column["data_ptr"] if field["kind"] == "image" else column
    flat = pointers.reshape(-1)
    order = np.argsort(flat, kind="stable")
    foreign = flat[order] != starts
    if foreign.any():
        raise ValueError(_foreign(order, flat, starts, stored))
    owner = table["sample_id"][by_pointer] != (order // len(stored)).astype(np.uint64)
    if owner.any():
        k = int(owner.argmax())
        sample, name = _place(order[k], stored)
        given = table["sample_id"][by_pointer][k]
        raise ValueError(f"sample {sample}: {name} belongs to sample {given} in the allocation table")

    result = np.empty_like(flat)
    result[order] = sizes
    result = result.reshape(pointers.shape)
    _check_sizes(result, samples, stored)
    _check_pages(int(sizes.sum()), page_size, (pages_end - pages_start) // page_size)
    return result


def _check_rows(table: NDArray[Any], page_size: int, pages_start: int, pages_end: int) -> None:
    """Check each row by itself; after this no sum of a pointer and a size can overflow."""
    pointers, sizes = table["ptr"], table["size"]
    wrong = (pointers < pages_start) | (pointers >= pages_end)
    if wrong.any():
        k = int(wrong.argmax())
        raise ValueError(f"allocation table: row {k} points at {pointers[k]}, wanted {pages_start} to {pages_end - 1}")
    wrong = (sizes == 0) | (sizes > page_size)
    if wrong.any():
        k = int(wrong.argmax())
        raise ValueError(f"allocation table: row {k} has {sizes[k]} bytes, wanted 1 to {page_size}")
    wrong = (pointers & np.uint64(page_size - 1)) + sizes > page_size
    if wrong.any():
        k = int(wrong.argmax())
        raise ValueError(f"allocation table: row {k}, {sizes[k]} bytes at {pointers[k]}, leaves its page")


def _foreign(order: NDArray[Any], flat: NDArray[Any], starts: NDArray[Any], stored: list[dict[str, Any]]) -> str:
    """Name the first record whose pointer the table lacks, or that another record has too."""
    at = np.minimum(np.searchsorted(starts, flat), len(starts) - 1)
    missing = starts[at] != flat
    if missing.any():
        k = int(missing.argmax())
        sample, name = _place(k, stored)
        return f"sample {sample}: {name} points at {flat[k]}, which is not in the allocation table"
    k = int((np.diff(flat[order]) == 0).argmax())
    sample, name = _place(order[k + 1], stored)
    other, other_name = _place(order[k], stored)
    return f"sample {sample}: {name} points at {flat[order[k]]}, as sample {other}'s {other_name} does"


def _place(k: Any, stored: list[dict[str, Any]]) -> tuple[int, str]:
    """Sample and field of position ``k`` in the flattened pointers."""
    return int(k) // len(stored), str(stored[int(k) % len(stored)]["name"])


def _check_sizes(sizes: NDArray[np.uint64], samples: NDArray[Any], stored: list[dict[str, Any]]) -> None:
    for j, field in enumerate(stored):
        limits = layout.sizes_limits(field, samples[field["name"]])
        wrong = (sizes[:, j] < limits[0]) | (sizes[:, j] > limits[1])
        if wrong.any():
            i = int(wrong.argmax())
            low, high = (int(np.broadcast_to(limit, len(sizes))[i]) for limit in limits)
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"sample {i}: {field['name']} has {sizes[i, j]} bytes, wanted {wanted}")


def _check_pages(used: int, page_size: int, pages: int) -> None:
    """One writer opens a page only when the next sample does not fit, so two neighbours hold a page's worth together.

    More pages than that are padding: a file of holes could make a reader work for days.
    """
    most = 2 * used // page_size + 1
    if pages > most:
        raise ValueError(f"{pages} data pages for {used} bytes of data, wanted at most {most}")


MAX_TABLE_BYTES = 512 << 20  # about 3 million pairs; FFCV itself would need gigabytes of Python objects beyond


def check_beton(path: Path, fields: list[dict[str, Any]], count: int, first_index: int) -> None:
    """Check that ``path`` is a whole FFCV file of ``count`` samples with these fields, safe to be mapped by FFCV.

    ``fields`` is a manifest's field table; the field ``index`` must run from ``first_index``. Raises DatasetError, one
    line that names the file and what is wrong with it. Costs 0.8 s and 0.5 GB of memory per million pairs.
    """
    with Beton(path, fields, count, first_index):
        pass


class Beton:
    """An open FFCV file that passed the check of ``check_beton``: what was checked is what is read.

    ``fields`` are those of the manifest's table that the file holds, by name; ``samples`` are the records (shape
    ``(count,)``, a column per field), ``size`` the file's size in bytes, ``descriptor`` the open file. Close it, or leave that
    to garbage collection.
    """

    def __init__(self, path: Path, fields: list[dict[str, Any]], count: int, first_index: int) -> None:
        self.path = Path(path)
        fields = layout.in_beton(fields)
        self.fields = {field["name"]: field for field in fields}
        self.descriptor = open_regular(self.path)
        self.close = weakref.finalize(self, os.close, self.descriptor)
        try:
            self.size = os.fstat(self.descriptor).st_size
            self._check_tables(fields, count, first_index)
        except OSError as fault:
            self.close()
            raise DatasetError(f"{self.path}: {fault.strerror}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Beton:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fault(self, reason: str) -> DatasetError:
        """The error to raise about this file."""
        return DatasetError(f"{self.path}: {reason}")

    def _read(self, size: int, offset: int, what: str) -> bytearray:
        data = read_at(self.descriptor, size, offset)
        if len(data) != size:
            raise self.fault(f"truncated: it ends inside its {what}")
        return data

    def _check_tables(self, fields: list[dict[str, Any]], count: int, first_index: int) -> None:
        page_size, table_start = self._check_header(fields, count)
        self._check_descriptors(fields)
        record = layout.record_dtype(fields)
        stored = layout.stored_fields(fields)
        records_start = layout.HEADER.size + layout.DESCRIPTOR.size * len(fields)
        records_bytes = count * record.itemsize
        table_bytes = count * len(stored) * layout.ALLOCATION.itemsize
        if records_bytes + table_bytes > MAX_TABLE_BYTES:
            raise self.fault(f"tables of {records_bytes + table_bytes} bytes, wanted at most {MAX_TABLE_BYTES}")
        if self.size < table_start + table_bytes:
            raise self.fault(f"truncated: {self.size} bytes, wanted {table_start + table_bytes}")
        if self.size > table_start + table_bytes:
            raise self.fault(f"{self.size} bytes, but its tables end at {table_start + table_bytes}")
        pages_start = -(-(records_start + records_bytes) // page_size) * page_size
        if table_start <= pages_start or table_start % page_size:
            raise self.fault(f"allocation table at {table_start}, wanted a page's boundary after {pages_start}")
        self.samples: NDArray[Any] = np.frombuffer(self._read(records_bytes, records_start, "records"), dtype=record)
        self._check_records(fields, count, first_index)
        table = np.frombuffer(self._read(table_bytes, table_start, "allocation table"), dtype=layout.ALLOCATION)
        try:
            sizes = check_pointers(self.samples, table, stored, page_size, pages_start, table_start)
        except ValueError as reason:
            raise self.fault(str(reason)) from None
        self.jpeg_sizes = {field["name"]: sizes[:, j].copy() for j, field in enumerate(stored) if layout.is_jpeg(field)}

    def _check_header(self, fields: list[dict[str, Any]], count: int) -> tuple[int, int]:
        """The page size and where the allocation table starts."""
        version, num_fields, page_size, num_samples, table_start = layout.HEADER.unpack(
            self._read(layout.HEADER.size, 0, "header")
        )
        if version != layout.VERSION:
            raise self.fault(f"FFCV format version {version}, wanted {layout.VERSION}")
        if table_start == 0:
            raise self.fault("unfinished: its writer stopped before it wrote the tables")
        if num_fields != len(fields):
            raise self.fault(f"{num_fields} fields, the manifest has {len(fields)}")
        if num_samples != count:
            raise self.fault(f"{num_samples} samples, the manifest says {count}")
        if page_size & (page_size - 1) or not layout.MIN_PAGE <= page_size <= layout.MAX_PAGE:
            raise self.fault(
                f"page size {page_size}, wanted a power of two from {layout.MIN_PAGE} to {layout.MAX_PAGE}"
            )
        if table_start >= self.size:
            raise self.fault(f"truncated: {self.size} bytes, its allocation table starts at {table_start}")
        return page_size, table_start

    def _check_descriptors(self, fields: list[dict[str, Any]]) -> None:
        size = layout.DESCRIPTOR.size
        data = bytes(self._read(size * len(fields), layout.HEADER.size, "field descriptors"))
        for i, field in enumerate(fields):
            wanted, found = layout.descriptor(field), data[i * size : (i + 1) * size]
            if found == wanted:
                continue
            type_id, name, _ = layout.DESCRIPTOR.unpack(found)
            if name != layout.DESCRIPTOR.unpack(wanted)[1]:
                raise self.fault(
                    f"field {i} is named {shown(name.rstrip(bytes(1)))}, the manifest says {field['name']!r}"
                )
            if type_id != wanted[0]:
                kind = layout.TYPE_NAMES.get(type_id, "unknown")
                raise self.fault(
                    f"field {field['name']} is of type {type_id} ({kind}), the manifest says {field['kind']}"
                )
            raise self.fault(f"field {field['name']} has other arguments (shape or number type) than the manifest says")

    def _check_records(self, fields: list[dict[str, Any]], count: int, first_index: int) -> None:
        """Images have the table's size (or keep within it, where they vary) and encoding, indices count up."""
        for field in fields:
            if field["kind"] != "image":
                continue
            height, width, _ = layout.largest_shape(field)
            mode = layout.MODES[field["encoding"].split(":")[0]]
            column = self.samples[field["name"]]
            least = MIN_VARYING_SIDE if layout.varies(field) else 0
            for part, low, high in (
                ("mode", mode, mode),
                ("height", least or height, height),
                ("width", least or width, width),
            ):
                wrong = (column[part] < low) | (column[part] > high)
                if wrong.any():
                    i = int(wrong.argmax())
                    wanted = f"{low}" if low == high else f"{low} to {high}"
                    raise self.fault(f"sample {i}: {field['name']} has {part} {column[part][i]}, wanted {wanted}")
        wrong = self.samples["index"] != np.arange(first_index, first_index + count, dtype=np.int64)
        if wrong.any():
            i = int(wrong.argmax())
            raise self.fault(f"sample {i} has index {self.samples['index'][i]}, wanted {first_index + i}")

    def shape(self, i: int, name: str) -> tuple[int, ...]:
        """Shape of an image ``(H, W, 3)`` or latent of sample ``i``."""
        field = self.fields[name]
        if not layout.varies(field):
            return tuple(field["shape"])
        value = self.samples[name][i]
        return int(value["height"]), int(value["width"]), 3

    def place(self, i: int, name: str) -> tuple[int, int]:
        """Where in the file the stored bytes of an image or latent of sample ``i`` begin, and how many they are."""
        field, value = self.fields[name], self.samples[name][i]
        pointer = int(value["data_ptr"] if field["kind"] == "image" else value)
        if name in self.jpeg_sizes:
            return pointer, int(self.jpeg_sizes[name][i])
        return pointer, math.prod(self.shape(i, name)) * (4 if field["kind"] == "float32" else 1)

    def read(self, i: int, name: str) -> NDArray[Any]:
        """The stored bytes of an image or latent of sample ``i`` (position in the file): uint8, shape ``(size,)``.

        Raises DatasetError where the file was cut since it was checked, OSError where the disk fails.
        """
        pointer, size = self.place(i, name)
        data: NDArray[Any] = np.empty(size, dtype=np.uint8)
        if read_into(self.descriptor, data.data, pointer) != size:
            raise self.fault(f"sample {i}: truncated inside {name}")
        return data
