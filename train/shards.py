"""All shards of a dataset as one table of samples, read where they lie.

``Beton`` checks each file's tables and keeps what it checked; FFCV's own decoder opens JPEGs. Between the two this module
takes the place of FFCV's ``Loader``, which knows one file, orders that a resume cannot repeat, and buffers that it reuses.
Every file is memory-mapped: a raw image or a latent is one copy out of the page cache.
"""

from __future__ import annotations

import mmap
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from genrep.datasets_manifest import Beton, Manifest
from genrep.errors import DatasetError

JPEG_START = b"\xff\xd8"
SPARE_DESCRIPTORS = 256


@dataclass(frozen=True, kw_only=True)
class Column:
    """One field over all shards; row i is the dataset's sample i."""

    shape: tuple[int, ...]  # of one sample
    dtype: np.dtype[Any]
    values: NDArray[np.int64] | None = None  # int fields: the values themselves
    pointers: NDArray[np.uint64] | None = None  # others: offset in the sample's file
    sizes: NDArray[np.uint64] | None = None  # JPEG images: bytes of each


class Shards:
    """Any rows of any field, by position in the dataset. Safe to read from several threads.

    Raises DatasetError if a shard is missing, of another size than the manifest says, or has wrong tables.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.paths = [folder / shard.name for shard in manifest.shards]
        self.starts = np.cumsum([0, *(shard.count for shard in manifest.shards)]).astype(np.int64)
        _allow_open_files(len(self.paths))
        betons = []
        self.bytes: list[NDArray[np.uint8]] = []
        for path, shard in zip(self.paths, manifest.shards):
            with Beton(path, manifest.fields, shard.count, shard.first_index) as beton:
                if beton.size != shard.bytes:
                    raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
                mapped = mmap.mmap(beton.descriptor, beton.size, prot=mmap.PROT_READ)
            betons.append(beton)
            self.bytes.append(np.frombuffer(mapped, dtype=np.uint8))
        self.columns = {field["name"]: _column(field, betons) for field in manifest.fields}
        jpeg = any(column.sizes is not None for column in self.columns.values())
        self.decoder = _ffcv_decoder() if jpeg else None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, name: str, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy or decode a field's ``rows`` into ``out``, contiguous, of shape ``(len(rows), *column.shape)``."""
        column = self.columns[name]
        if column.values is not None:
            out[:] = column.values[rows]
            return
        assert column.pointers is not None
        pointers = column.pointers[rows].astype(np.int64)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(owners).tolist():
            places = np.flatnonzero(owners == shard)
            if column.sizes is None:
                size = int(np.prod(column.shape)) * column.dtype.itemsize
                found = _gather(self.bytes[shard], pointers[places], size)
                out[places] = found.view(column.dtype).reshape(len(places), *column.shape)
            else:
                self._decode(shard, pointers[places], column.sizes[rows[places]], out, places)

    def _decode(
        self,
        shard: int,
        pointers: NDArray[np.int64],
        sizes: NDArray[np.uint64],
        out: NDArray[np.uint8],
        places: NDArray[np.int64],
    ) -> None:
        """Decode one shard's JPEGs straight into ``out[places]``."""
        assert self.decoder is not None
        data = self.bytes[shard]
        height, width = out.shape[1:3]
        base, target, stride = data.ctypes.data, out.ctypes.data, out.strides[0]
        for pointer, size, place in zip(pointers.tolist(), sizes.tolist(), places.tolist()):
            if data[pointer : pointer + 2].tobytes() != JPEG_START:
                raise DatasetError(f"{self.paths[shard]}: no JPEG at byte {pointer}; genrep-manifest verify says more")
            no_crop_scale_or_flip = (height, width, 0, 0, 1, 1, False, False)
            self.decoder(base + pointer, size, height, width, target + place * stride, *no_crop_scale_or_flip)


def _gather(data: NDArray[np.uint8], pointers: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """``size`` bytes from each pointer on; a pointer beyond the data is an IndexError, never a read outside.

    Shape: ``(bytes,), (N,) -> (N, size)``. Fancy indexing of overlapping windows is one memcpy per row.
    """
    windows = as_strided(data, shape=(max(len(data) - size + 1, 0), size), strides=(1, 1), writeable=False)
    return windows[pointers]


def _column(field: dict[str, Any], betons: list[Beton]) -> Column:
    name, kind = field["name"], field["kind"]
    parts = np.concatenate([beton.samples[name] for beton in betons])
    if kind == "int":
        return Column(shape=(), dtype=np.dtype(np.int64), values=parts.astype(np.int64))
    shape = tuple(field["shape"])
    if kind == "float32":
        return Column(shape=shape, dtype=np.dtype("<f4"), pointers=parts)
    return Column(
        shape=shape,
        dtype=np.dtype(np.uint8),
        pointers=parts["data_ptr"].copy(),
        sizes=None if field["encoding"] == "raw" else np.concatenate([beton.jpeg_sizes[name] for beton in betons]),
    )


def _ffcv_decoder() -> Callable[..., Any]:
    """FFCV's JPEG decoder, called without its loader; the call lets other threads run."""
    threads = torch.get_num_threads()
    from ffcv.libffcv import ctypes_imdecode

    torch.set_num_threads(threads)  # importing FFCV sets them to 1
    decoder: Callable[..., Any] = ctypes_imdecode
    return decoder


def _allow_open_files(count: int) -> None:
    """Python keeps a descriptor per mapping: raise the soft limit where a large set needs it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
