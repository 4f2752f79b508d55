"""One FFCV file, written sample after sample: the bytes of FFCV 1.0.2's DatasetWriter with one worker.

FFCV's writer forks processes, waits for ever when a sample raises, and writes under the final name. This one needs no FFCV.
It streams: it holds one batch of a file's content and the tables (24 bytes per stored value, a record per sample). Errors
are raised, and nothing has the file's name before the whole file is on disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import DatasetError
from genrep.files import faults_named, fsync_folder
from genrep.images.turbojpeg import encode_jpeg

from . import layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_FIELD_NAME = 16  # bytes; FFCV cuts longer names silently
ZEROS = bytes(1 << 20)


def stored_image(image: NDArray[np.uint8], encoding: str) -> Any:
    """The bytes that a file of this ``encoding`` holds of an image ``(H, W, 3)``: a flat array, or a JPEG file."""
    mode, *options = encoding.split(":")
    if mode == "raw":
        return np.ascontiguousarray(image).reshape(-1)
    return encode_jpeg(image, int(options[0]), full_chroma=options[1:] == ["444"])


class BetonWriter:
    """Context manager that writes ``count`` samples; nothing appears under ``path`` until ``finish`` has returned.

    >>> with BetonWriter(path, field_table((32, 32), "raw"), 1000, 1 << 21) as writer:
    ...     writer.append([images, labels, indices])  # (1000, 32, 32, 3), (1000,), (1000,)
    ...     size, sha256 = writer.finish()

    Args:
        fields: a manifest's field table. Latents that are not stored are not written (``layout.in_beton``).
        page: bytes of a page, a power of two. All of a sample must fit into one.

    Raises:
        DatasetError: a field's name is longer than FFCV keeps.
        OSError: the disk failed; names the file.
    """

    def __init__(self, path: Path, fields: Sequence[dict[str, Any]], count: int, page: int) -> None:
        for field in fields:
            if len(field["name"].encode()) > MAX_FIELD_NAME:
                raise DatasetError(f"field name {field['name']!r}: FFCV keeps {MAX_FIELD_NAME} bytes")
        self.path, self.fields, self.count, self.page, self.written = path, layout.in_beton(fields), count, page, 0
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._descriptors = b"".join(layout.descriptor(field) for field in self.fields)
        self._records = np.zeros(count, layout.record_dtype(self.fields))
        self._stored = layout.stored_fields(self.fields)
        self._allocations = np.zeros((count, len(self._stored)), layout.ALLOCATION)
        self._left = 0  # bytes of the open page; none is open yet

    def __enter__(self) -> BetonWriter:
        with faults_named(self.path):
            self._file = FileIO(self.temporary, "w+")
            try:
                self._write(self._header(0) + self._descriptors)
            except OSError:
                self.__exit__(None, None, None)
                raise
        data = self._file.tell() + self._records.nbytes
        self._at = self._file.seek(-(-data // self.page) * self.page)  # where the next value goes
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.temporary.unlink(missing_ok=True)

    def append(self, columns: Sequence[Any]) -> None:
        """Add samples: a column for each of ``self.fields``, in the table's order, none for latents that are not stored.

        Images are uint8, shape ``(B, H, W, 3)``, or where they vary B arrays ``(H, W, 3)``; they are encoded here. Latents have
        shape ``(B, …)``, integers and floats ``(B,)``.

        Raises DatasetError for a sample that does not fit into a page, OSError where the disk fails.
        """
        first, count = self.written, len(columns[-1])
        if first + count > self.count:
            raise ValueError(f"{self.path}: {first + count} samples for a file of {self.count}")
        records, values = self._records[first : first + count], []
        for field, column in zip(self.fields, columns, strict=True):
            if field["kind"] == "image":
                records[field["name"]]["mode"] = layout.MODES[field["encoding"].split(":")[0]]
                records[field["name"]]["height"] = [image.shape[0] for image in column]
                records[field["name"]]["width"] = [image.shape[1] for image in column]
                values.append(_images(field, column))
            elif field["kind"] == "float32":
                values.append(np.ascontiguousarray(column, "<f4").reshape(count, -1).view(np.uint8))
            else:
                records[field["name"]] = column
        sizes = np.array([_sizes(value) for value in values], dtype=np.int64).T  # (B, stored fields)
        with faults_named(self.path):
            self._place(values, sizes)
        for field, pointers in zip(self._stored, self._allocations["ptr"][first : first + count].T):
            target = records[field["name"]]
            (target["data_ptr"] if field["kind"] == "image" else target)[:] = pointers
        self.written += count

    def _place(self, values: list[Any], sizes: NDArray[np.int64]) -> None:
        """Write a batch's values. All of a sample goes into one page: the next one if it does not fit into this one."""
        ends, done = np.cumsum(sizes.sum(axis=1)), 0
        while done < len(ends):
            before = int(ends[done - 1]) if done else 0
            fitting = int(np.searchsorted(ends, before + self._left, side="right"))
            if fitting > done:
                self._write_samples(values, sizes, done, fitting)
            elif self._left == self.page:
                at, size = self.written + done, int(ends[done]) - before
                raise DatasetError(f"{self.path}: sample {at} has {size} bytes, its page {self.page}")
            if fitting < len(ends):
                self._close_page([(value[fitting], size) for value, size in zip(values, sizes[fitting].tolist())])
                self._left = self.page
            done = fitting

    def _write_samples(self, values: list[Any], sizes: NDArray[np.int64], start: int, stop: int) -> None:
        flat = sizes[start:stop].reshape(-1)
        ends = np.cumsum(flat)
        rows = self._allocations[self.written + start : self.written + stop]
        rows["sample_id"] = np.arange(self.written + start, self.written + stop)[:, None]
        rows["ptr"], rows["size"] = (self._at + ends - flat).reshape(rows.shape), sizes[start:stop]
        if all(isinstance(value, np.ndarray) for value in values):
            parts = [value[start:stop] for value in values]
            self._write(
                np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)).data.cast("B")
            )
        else:
            self._write(b"".join([value[i] for i in range(start, stop) for value in values]))
        self._at += int(ends[-1])
        self._left -= int(ends[-1])

    def _close_page(self, following: Sequence[tuple[Any, int]] = ()) -> None:
        """Fill up the open page as FFCV does: with what fits of the next page's first sample, then with zeros."""
        left = self._left
        for value, size in following:
            if size > left:
                break
            self._write(value)
            left -= size
        self._at += self._left
        while left:
            size = min(left, len(ZEROS))
            self._write(memoryview(ZEROS)[:size])
            left -= size
        self._left = 0

    def finish(self) -> tuple[int, str]:
        """Write the tables, make the file durable, give it its name; returns its bytes and their sha256."""
        if self.written != self.count:
            raise ValueError(f"{self.path}: {self.written} samples for a file of {self.count}")
        with faults_named(self.path):
            self._close_page()
            self._write(self._allocations.data.cast("B"))
            self._file.seek(layout.HEADER.size + len(self._descriptors))
            self._write(self._records.view(np.uint8).data)
            self._file.seek(0)
            self._write(self._header(self._at))
            os.fsync(self._file.fileno())
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256").hexdigest()
            size = self._file.tell()
            os.replace(self.temporary, self.path)
            fsync_folder(self.path.parent)
        return size, digest

    def _header(self, table_start: int) -> bytes:
        return layout.HEADER.pack(layout.VERSION, len(self.fields), self.page, self.count, table_start)

    def _write(self, data: Any) -> None:
        """Write all bytes: the system may take fewer at a time."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]


def _images(field: dict[str, Any], column: Any) -> Any:
    """A column's bytes: an array ``(B, bytes)`` where all samples have as many, else a list of each sample's."""
    if any(image.dtype != np.uint8 for image in column):
        raise TypeError(f"{field['name']}: images are uint8")
    if field["encoding"] == "raw" and isinstance(column, np.ndarray):
        return np.ascontiguousarray(column).reshape(len(column), -1)
    return [stored_image(image, field["encoding"]) for image in column]


def _sizes(values: Any) -> list[int]:
    return [values.shape[1]] * len(values) if isinstance(values, np.ndarray) else [len(value) for value in values]
