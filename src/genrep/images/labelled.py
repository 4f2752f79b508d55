"""Labelled images of a split: pixels in memory, or files until they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from .inventory import Inventory, inventory_of_files, inventory_of_pixels, words_of
from .listing import Listing, list_images, list_pair
from .reading import fit, read_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

TOP1, MEAN_PER_CLASS = "top-1", "mean per class"


class MissingDataset(DataError):
    """A named dataset is not where it was looked for."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of a split, with a label each."""

    name: str
    labels: NDArray[np.int64]  # (N,), -1 = none
    classes: tuple[str, ...]
    split: str = ""  # which images these are, in words
    metric: str = TOP1  # or MEAN_PER_CLASS: what is usual for the set
    pixels: NDArray[np.uint8] | None = None  # (N, H, W, 3), or
    paths: list[str] | None = None
    licence: str = "unknown"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def title(self) -> str:
        """Which images these are, in words."""
        return self.split

    @property
    def images(self) -> NDArray[np.uint8]:
        """The pixels of a set in memory. Shape: ``(N, H, W, 3)``."""
        assert self.pixels is not None
        return self.pixels

    def open(self, i: int) -> Image:
        """One image. Raises DataError if it cannot be read."""
        if self.paths is not None:
            return read_rgb(self.paths[i])
        from PIL import Image

        return Image.fromarray(self.images[i])

    def where(self, i: int) -> str:
        """The name of an image in errors."""
        return self.paths[i] if self.paths is not None else f"image {i}"

    def is_gray(self) -> bool:
        """Whether the three channels are equal everywhere; of a set in memory."""
        return bool((self.images == self.images[..., :1]).all())

    @cached_property
    def inventory(self) -> Inventory:
        """Every image with its label and the digest of its content. Raises DataError if a file cannot be read."""
        if self.paths is not None:
            words = words_of(self.labels, self.classes)
            return inventory_of_files(self.paths, words, self.classes, what=f"{self.name}, {self.split}")
        return inventory_of_pixels(self.images, self.labels, self.classes)

    def take(self, rows: NDArray[np.int64], split: str) -> LabelledImages:
        """Some of them, with another description."""
        paths = None if self.paths is None else [self.paths[i] for i in rows]
        pixels = None if self.pixels is None else self.pixels[rows]
        return LabelledImages(
            self.name, self.labels[rows], self.classes, split, self.metric, pixels, paths, self.licence
        )

    def checked(self) -> LabelledImages:
        """Itself. Raises DataError if a label has no name, or a class no image."""
        where = f"dataset {self.name}, {self.split}"
        if not len(self.labels):
            raise DataError(f"{where}: no images")
        if not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            wrong = self.labels[(self.labels < 0) | (self.labels >= len(self.classes))][0]
            raise DataError(f"{where}: label {wrong}, but there are {len(self.classes)} classes")
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if not counts.all():
            empty = [self.classes[i] for i in np.flatnonzero(counts == 0)]
            raise DataError(f"{where}: no images of {len(empty)} of {len(self.classes)} classes, e.g. {empty[0]}")
        return self


Pair = tuple[LabelledImages, LabelledImages]  # training and test images, with the same classes


def list_folder_pair(
    folder: Path, *, name: str | None = None, classes: Sequence[str] | None = None, metric: str = TOP1
) -> Pair:
    """Training and test images of an image folder, as files. Raises DataError: see ``listing``."""
    train, test = list_pair(folder, name=name, classes=classes)
    return _as_files(train.tell(), metric), _as_files(test.tell(), metric)


def _as_files(listing: Listing, metric: str) -> LabelledImages:
    paths = [f"{listing.base}/{name}" for name in listing.names]
    return LabelledImages(
        listing.name, listing.labels, listing.classes, split=listing.split, metric=metric, paths=paths
    )


def load_folder(folder: Path, split: str, size: int | None) -> LabelledImages:
    """Load an image folder into memory, in the order of ``listing``.

    Args:
        split: ``train`` or ``test``.
        size: centre-crop to a square and resize to ``size`` pixels; None wants images of one size.
    """
    listing = list_images(folder, split).tell()
    images = [read_image(listing.base / name, size) for name in listing.names]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        found = f"images of {len(shapes)} sizes, e.g. {sorted(shapes)[:2]}"
        raise DataError(f"{listing.base}: {found}: give one size to crop and resize them to")
    return LabelledImages(listing.name, listing.labels, listing.classes, split=listing.split, pixels=np.stack(images))


def read_image(path: Path, size: int | None) -> NDArray[np.uint8]:
    """An image as ``load_folder`` gives it. Shape: ``(H, W, 3)``. Raises DataError if it cannot be read."""
    image = read_rgb(path)
    return np.asarray(image if size is None else fit(image, (size, size)))
