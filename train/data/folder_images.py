"""A folder of image files as a set of anchors: the real baseline, without converting it first.

Every visit reads and decodes the file again, in the loader's threads. That is tens of times the work of a dataset's JPEG;
``genrep-generate from-folder`` makes the same pixels once. This is meant for trials, and for sets that are seen once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError
from genrep.files import digest_json
from genrep.images.folders import entries_of, is_folder, is_image
from genrep.images.inventory import Inventory, inventory_of_files, words_of
from genrep.images.listing import list_images
from genrep.images.reading import fit, read_rgb, read_size
from genrep.machine import cores
from genrep.progress import Progress

from .fields import VARYING, Destination, Field, Rows

PER_SHARD = 1000  # images that a windowed order keeps together
MAX_THREADS = 16  # that read headers: a network's file system answers many at a time
TOLD = 20_000  # images from which on reading their sizes shows progress


class FolderImages:
    """The images of a folder: one subfolder a class, or bare images; its ``train/`` where there is one. As ``Shards``.

    They are numbered by class name, then file name, as ``genrep-generate from-folder`` numbers them. ``shape`` (height, width):
    the largest central part of these proportions, resized (``genrep.images.reading.fit``); None: as they are. Then every file's
    header is read for its size, and images of several sizes (``self.shape`` is VARYING) can be had by ``picture`` alone.

    Raises DataError if there is no image, or one cannot be read.
    """

    num_positives = 0

    def __init__(self, folder: Path, shape: tuple[int, int] | None = None) -> None:
        listing = list_images(folder, "train")
        if os.environ.get("RANK", "0") == "0":  # of torchrun's processes one is enough to tell
            listing.tell()
        self.where, self.classes = listing.base, listing.classes
        self._names, self._labels = listing.names, listing.labels
        self._fitted = shape
        self.span = len(self._names)
        self._sides = self._read_sides() if shape is None else np.array([shape], dtype=np.int64)
        one_size = bool((self._sides == self._sides[0]).all())
        self.shape: tuple[int, ...] = (*self._sides[0].tolist(), 3) if one_size else VARYING
        self.bounds = np.array([*range(0, self.span, PER_SHARD), self.span], dtype=np.int64)
        sizes = np.broadcast_to(3 * self._sides.prod(axis=1), self.span)
        self.shard_bytes = np.add.reduceat(sizes, self.bounds[:-1])
        integer = Field(shape=(), dtype=np.dtype(np.int64))
        image = Field(shape=self.shape, dtype=np.dtype(np.uint8))
        self.fields = {"anchor": image, "label": integer, "index": integer}

    def __len__(self) -> int:
        return self.span

    @cached_property
    def inventory(self) -> Inventory:
        """Every image with its class and the digest of its content: the whole folder is read, once while it stays."""
        paths = [str(self._path(i)) for i in range(len(self))]
        return inventory_of_files(paths, words_of(self._labels, self.classes), self.classes, what=str(self.where))

    @cached_property
    def identity(self) -> str:
        """sha256 over the images and the shape that they are brought to."""
        return digest_json([list(self.shape), self._fitted is not None, self.inventory.digest])

    def _path(self, i: int) -> Path:
        return self.where / self._names[i]

    def indices(self, rows: Rows) -> NDArray[np.int64]:
        """See ``Shards``."""
        return rows

    def numbers(self, name: str, rows: Rows) -> NDArray[Any]:
        """See ``Shards``."""
        return rows if name == "index" else self._labels[rows]

    def read(self, rows: Rows, places: Rows, slots: list[Destination]) -> None:
        """Decode each row once, for all slots."""
        for row, place in zip(rows.tolist(), places.tolist()):
            pixels = self.picture(row, "anchor")
            for slot in slots:
                slot.out[place] = pixels

    def sides(self, rows: Rows, names: Sequence[str]) -> tuple[Rows, Rows]:
        """See ``Shards``."""
        sides = np.broadcast_to(self._sides, (self.span, 2))[rows]
        return sides[:, 0], sides[:, 1]

    def shorter_sides(self) -> NDArray[np.integer[Any]]:
        """See ``Shards``."""
        return np.broadcast_to(self._sides, (self.span, 2)).min(axis=1)

    def picture(self, row: int, name: str) -> NDArray[np.uint8]:
        """An image. Shape ``(H, W, 3)``. Raises DataError if it cannot be read, or has another size than it had."""
        path = self._path(row)
        image = read_rgb(path)
        if self._fitted is not None:
            return np.asarray(fit(image, self._fitted))
        height, width = np.broadcast_to(self._sides, (self.span, 2))[row].tolist()
        if image.size != (width, height):
            raise DataError(f"{path}: {image.height} x {image.width}, it was {height} x {width} when the run began")
        return np.asarray(image)

    def _read_sides(self) -> NDArray[np.int64]:
        """Height and width of every image, from its header. Shape: ``(N, 2)``."""
        threads = min(MAX_THREADS, 2 * cores())
        silent = self.span < TOLD or os.environ.get("RANK", "0") != "0"
        sides = np.empty((self.span, 2), dtype=np.int64)
        with (
            ThreadPoolExecutor(threads) as pool,
            Progress(self.span, "image", f"sizes of {self.where}", silent=silent) as progress,
        ):
            for i, found in enumerate(pool.map(read_size, map(self._path, range(self.span)))):
                sides[i] = found
                progress.update(1)
        return sides

    def will_need(self, shard: int) -> None:
        """See ``Shards``; files are not read ahead."""

    def done_with(self, shard: int) -> None:
        """See ``Shards``; nothing is kept."""


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds image files, or subfolders and no shards."""
    if not folder.is_dir() or any(folder.glob("shard-*")) or (folder / "recipe.json").exists():
        return False
    return any(is_folder(entry) or is_image(entry) for entry in entries_of(folder))
