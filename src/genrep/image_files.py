"""Labelled images that stay files until they are looked at: sets larger than memory, of photos of any shape."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError
from .real_images import IMAGE_SUFFIXES, images_in, split_folder

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

    def digest(self) -> str:
        """sha256 over names (the last two parts), sizes, times of change and labels: have the files changed?

        Raises DataError if one is missing.
        """
        digest = hashlib.sha256()
        for path, label in zip(self.paths, self.labels.tolist()):
            try:
                facts = os.stat(path)
            except OSError as error:
                raise DataError(f"{path}: {error.strerror}") from error
            name = "/".join(path.split("/")[-2:])
            digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0{label}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()

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


def list_folder(
    folder: Path, split: str, *, name: str | None = None, classes: Sequence[str] | None = None
) -> ImageFiles:
    """List an image folder with one subfolder a class; labels are the places of the sorted names.

    Args:
        folder: holds ``train/`` and ``test/`` (or ``val/``); see ``real_images.split_folder``.
        split: ``train`` or ``test``.
        name: of the dataset; by default the folder's.
        classes: only these, in this order; a further subfolder is not looked at if they are given for ``train``.

    Raises:
        DataError: there are no classes, one is missing, or one has no images.
    """
    base = split_folder(folder, split)
    there = sorted(entry.name for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not there:
        raise DataError(f"{base}: no subfolder for each class; wanted labelled images")
    wanted = list(there if classes is None else classes)
    if missing := [name for name in wanted if name not in set(there)]:
        raise DataError(f"{base}: no folder of {len(missing)} of {len(wanted)} classes, e.g. {missing[0]}")
    paths: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(wanted):
        found = images_in(base / class_name)
        if not found:
            raise DataError(f"{base / class_name}: no images ({', '.join(IMAGE_SUFFIXES)}) in this class folder")
        paths += map(str, found)
        labels += [label] * len(found)
    return ImageFiles(
        name=name or folder.resolve().name,
        paths=paths,
        labels=np.array(labels, dtype=np.int64),
        classes=tuple(wanted),
        split=f"its {base.name}/ folder",
    )


def list_folder_pair(
    folder: Path, *, name: str | None = None, classes: Sequence[str] | None = None
) -> tuple[ImageFiles, ImageFiles]:
    """Training and test images of a folder, with the same classes in both.

    Raises:
        DataError: as ``list_folder``, or a split has a class that the other lacks.
    """
    train = list_folder(folder, "train", name=name, classes=classes)
    test = list_folder(folder, "test", name=name, classes=train.classes)
    base = split_folder(folder, "test")
    if classes is None:
        for entry in sorted(base.iterdir()):
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in train.classes:
                raise DataError(f"{entry}: a class that {split_folder(folder, 'train')} lacks")
    return train, test
