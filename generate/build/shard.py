"""One FFCV file, written sample by sample in this process.

FFCV's DatasetWriter forks workers, waits for ever when a sample raises, and writes under the final name. This writer uses
FFCV's own fields, page allocator and table types, but streams: one writer per file (so that its bytes are the same on every
run), errors that propagate, and a temporary name until the file is whole and on disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from ffcv.fields import IntField, NDArrayField, RGBImageField
from ffcv.memory_allocator import MemoryAllocator
from ffcv.types import ALLOC_TABLE_TYPE, CURRENT_VERSION, TYPE_ID_HANDLER, FieldDescType, HeaderType, get_metadata_type
from ffcv.writer import handle_sample

from genrep.datasets_manifest.layout import MODES
from genrep.errors import RecipeError
from genrep.files import faults_named, fsync_folder

from ..pixels import jpeg_options
from ..sources.base import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_FIELD_NAME = 16  # bytes; FFCV cuts longer names without a word


class _ImageField(RGBImageField):  # type: ignore[misc]
    """FFCV's image field with JPEG options that it does not offer (4:4:4); what it writes is FFCV's to the byte."""

    def __init__(self, options: list[int] | None) -> None:
        super().__init__()
        self.options = options  # of OpenCV's encoder, None = raw

    def encode(self, destination: NDArray[Any], image: NDArray[np.uint8], malloc: Any) -> None:
        """Store an image ``(H, W, 3)`` where ``malloc`` has room, and say so in ``destination``."""
        data = image.reshape(-1) if self.options is None else encode_jpeg(image, self.options)
        destination["mode"] = MODES["raw" if self.options is None else "jpeg"]
        destination["height"], destination["width"] = image.shape[:2]
        destination["data_ptr"], storage = malloc(data.nbytes)
        storage[:] = data


def encode_jpeg(image: NDArray[np.uint8], options: list[int]) -> NDArray[np.uint8]:
    """A JPEG file with OpenCV's ``options``. Shape: ``(H, W, 3) -> (bytes,)``."""
    return np.asarray(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]).reshape(-1)


def ffcv_field(row: dict[str, Any]) -> Any:
    """FFCV's field for one row of a manifest's field table."""
    if row["kind"] == "image":
        return _ImageField(jpeg_options(row["encoding"]))
    if row["kind"] == "float32":
        return NDArrayField(np.dtype("<f4"), tuple(row["shape"]))
    return IntField()


class _Counter:
    """What MemoryAllocator shares between processes, for one."""

    def __init__(self) -> None:
        self.value = 0

    def get_lock(self) -> AbstractContextManager[None]:
        return nullcontext()


class _PageAllocator(MemoryAllocator):  # type: ignore[misc]
    """FFCV's allocator without its semaphores, which a killed process would leave behind."""

    def __init__(self, path: Path, data_start: int, size: int) -> None:
        super().__init__(str(path), data_start, size)
        self.next_page_allocated, self.next_page_written = _Counter(), _Counter()


class ShardWriter:
    """Context manager that writes one shard; nothing appears under ``path`` until ``finish`` has returned."""

    def __init__(self, path: Path, table: list[dict[str, Any]], count: int, page: int) -> None:
        for row in table:
            if len(row["name"].encode()) > MAX_FIELD_NAME:
                raise RecipeError(f"field name {row['name']!r}: FFCV keeps {MAX_FIELD_NAME} bytes")
        self.path, self.count, self.written = path, count, 0
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.fields = {row["name"]: ffcv_field(row) for row in table}
        self.metadata_type = get_metadata_type(list(self.fields.values()))
        self.metadata = np.zeros(count, dtype=self.metadata_type)
        self.header = np.zeros(1, dtype=HeaderType)
        self.header["version"], self.header["num_fields"] = CURRENT_VERSION, len(self.fields)
        self.header["page_size"], self.header["num_samples"] = page, count
        self.latents_digest = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        descriptors = self._descriptors()
        try:
            with faults_named(self.path), open(self.temporary, "wb") as file:
                file.write(self.header.tobytes() + descriptors.tobytes())
        except OSError:
            self.temporary.unlink(missing_ok=True)
            raise
        self.metadata_start = self.header.nbytes + descriptors.nbytes
        data_start = self.metadata_start + self.metadata.nbytes
        self.allocator = _PageAllocator(self.temporary, data_start, int(self.header["page_size"][0]))
        self.allocator.__enter__()
        return self

    def _descriptors(self) -> NDArray[Any]:
        type_ids = {handler: number for number, handler in TYPE_ID_HANDLER.items()}
        type_ids[_ImageField] = type_ids[RGBImageField]
        descriptors = np.zeros(len(self.fields), dtype=FieldDescType)
        for row, (name, field) in zip(descriptors, self.fields.items()):
            encoded = np.frombuffer(name.encode("ascii"), dtype=np.uint8)
            row["type_id"] = type_ids[type(field)]
            row["name"][: len(encoded)] = encoded
            row["arguments"][:] = field.to_binary()[0]
        return descriptors

    def append(self, batch: Batch) -> None:
        """Add the batch's pairs."""
        names = self.metadata_type.names
        columns: list[Any] = [*batch.images, *batch.latents, batch.labels, batch.indices]
        if batch.rows is not None:
            columns.append(batch.rows)
        for row in range(len(batch.indices)):
            sample = [column[row] for column in columns]
            with faults_named(self.path):
                handle_sample(sample, self.written, names, self.metadata, self.allocator, self.fields)
            self.written += 1
            for z in batch.latents:
                self.latents_digest.update(z[row].astype("<f4").tobytes())

    def finish(self) -> dict[str, Any]:
        """Write the tables, make the file durable, give it its name; returns its bytes and digests."""
        assert self.written == self.count, f"{self.written} of {self.count} samples"
        with faults_named(self.path):
            return self._finish()

    def _finish(self) -> dict[str, Any]:
        self.allocator.__exit__(None, None, None)
        with open(self.temporary, "r+b") as file:
            file.seek(self.metadata_start)
            file.write(self.metadata.tobytes())
            table_start = file.seek(0, os.SEEK_END)
            pages = self.allocator.next_page_written.value
            if table_start != self.allocator.offset + pages * self.allocator.page_size:
                # FFCV does not look at how much an unbuffered write took.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            file.write(np.array(self.allocator.allocations, dtype=ALLOC_TABLE_TYPE).tobytes())
            self.header["alloc_table_ptr"] = table_start
            file.seek(0)
            file.write(self.header.tobytes())
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            size = file.seek(0, os.SEEK_END)
        os.replace(self.temporary, self.path)
        fsync_folder(self.path.parent)
        return {"bytes": size, "sha256": digest.hexdigest(), "latents_sha256": self.latents_digest.hexdigest()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.allocator.fp.close()
        self.temporary.unlink(missing_ok=True)
