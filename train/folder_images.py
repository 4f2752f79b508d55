"""A folder of image files as a set of anchors: the real baseline, without converting it first.

Every visit reads and decodes the file anew, in the loader's threads: tens of times the work of a dataset's JPEG, for
which ``genrep-generate from-folder`` makes the same pixels once. It is meant for trying out, and for sets that are seen once.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError
from genrep.images.folders import entries_of, is_folder, is_image
from genrep.images.listing import list_images
from genrep.images.reading import read_rgb, read_size

from .shards import Field, Rows, Slot

if TYPE_CHECKING:
    from PIL.Image import Image

PER_SHARD = 1000  # images that a windowed order keeps together


class FolderImages:
    """The images of a folder: one subfolder a class, or bare images; its ``train/`` where there is one. As ``Shards``.

    They are numbered by class name, then file name, as ``genrep-generate from-folder`` numbers them. ``shape`` (height, width):
    the largest central part of these proportions, resized (Pillow, bicubic with antialiasing); None: that of the first image,
    and an image of another size is refused when it is met.

    Raises DataError if there is no image, or one cannot be read.
    """

    num_positives = 0

    def __init__(self, folder: Path, shape: tuple[int, int] | None = None) -> None:
        listing = list_images(folder, "train")
        if os.environ.get("RANK", "0") == "0":  # of torchrun's processes one is enough to tell
            listing.tell()
        self.where, self.classes = listing.base, listing.classes
        self._names, self._labels = listing.names, listing.labels
        self._may_resize = shape is not None
        height, width = shape or read_size(self._path(0))
        self.shape: tuple[int, ...] = (height, width, 3)
        self.identity = self._digest()
        self.span = len(self._names)
        self.bounds = np.array([*range(0, self.span, PER_SHARD), self.span], dtype=np.int64)
        self.shard_bytes = np.diff(self.bounds) * (height * width * 3)
        integer = Field(shape=(), dtype=np.dtype(np.int64))
        image = Field(shape=self.shape, dtype=np.dtype(np.uint8))
        self.fields = {"anchor": image, "label": integer, "index": integer}

    def __len__(self) -> int:
        return self.span

    def _digest(self) -> str:
        """sha256 over size and names: looking at the files' times or bytes would take minutes on large folders."""
        digest = hashlib.sha256(f"{self.shape} {self._may_resize}".encode())
        for name in self._names:
            digest.update(f"\0{'' if '/' in name else '/'}{name}".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _path(self, i: int) -> Path:
        return self.where / self._names[i]

    def indices(self, rows: Rows) -> NDArray[np.int64]:
        """See ``Shards``."""
        return rows

    def integers(self, name: str, rows: Rows) -> NDArray[Any]:
        """See ``Shards``."""
        return rows if name == "index" else self._labels[rows]

    def read(self, rows: Rows, places: Rows, slots: list[Slot]) -> None:
        """Decode each row once, for all slots."""
        for row, place in zip(rows.tolist(), places.tolist()):
            pixels = self._read(self._path(row))
            for slot in slots:
                slot.out[place] = pixels

    def _read(self, path: Path) -> NDArray[np.uint8]:
        image = read_rgb(path)
        height, width, _ = self.shape
        if image.size != (width, height):
            if not self._may_resize:
                raise DataError(
                    f"{path}: {image.height} x {image.width}, the first image is {height} x {width}: give a size"
                )
            image = _fitted(image, height, width)
        return np.asarray(image)

    def will_need(self, shard: int) -> None:
        """See ``Shards``; files are not read ahead."""

    def done_with(self, shard: int) -> None:
        """See ``Shards``; nothing is kept."""


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds image files, or subfolders and no shards."""
    if not folder.is_dir() or any(folder.glob("shard-*")) or (folder / "recipe.json").exists():
        return False
    return any(is_folder(entry) or is_image(entry) for entry in entries_of(folder))


def _fitted(image: Image, height: int, width: int) -> Image:
    """The pixels of ``genrep-generate from-folder`` with the same size and its central crop."""
    from PIL.Image import Resampling

    scale = min(image.width / width, image.height / height)
    inner_width, inner_height = max(int(scale * width), 1), max(int(scale * height), 1)
    left, top = (image.width - inner_width) // 2, (image.height - inner_height) // 2
    image = image.crop((left, top, left + inner_width, top + inner_height))
    return image.resize((width, height), Resampling.BICUBIC)
