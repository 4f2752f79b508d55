"""Labelled images that stay files until they are looked at: sets larger than memory, of photos of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from .listing import Listing, list_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Image files with their labels."""

    name: str
    paths: list[str]
    labels: NDArray[np.int64]  # (N,)
    classes: tuple[str, ...]
    split: str  # which images these are, in words

    def __len__(self) -> int:
        return len(self.paths)

    def checked(self) -> ImageFiles:
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


def list_folder_pair(
    folder: Path, *, name: str | None = None, classes: Sequence[str] | None = None
) -> tuple[ImageFiles, ImageFiles]:
    """Training and test images of an image folder, with the same classes in both. Raises DataError: see ``images.listing``."""
    train, test = list_pair(folder, name=name, classes=classes)
    return _files(train.tell()), _files(test.tell())


def _files(listing: Listing) -> ImageFiles:
    return ImageFiles(
        name=listing.name,
        paths=[f"{listing.base}/{name}" for name in listing.names],
        labels=listing.labels,
        classes=listing.classes,
        split=listing.split,
    )
