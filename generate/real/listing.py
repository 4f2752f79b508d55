"""The files of an image folder in a fixed order, without opening one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError
from genrep.photo_sets import FOLDER_SETS, find_folder
from genrep.real_images import IMAGE_SUFFIXES, split_folder


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Image files by class name, then file name: the order in which they get their numbers."""

    name: str  # of the set, or of its folder
    base: Path
    classes: tuple[str, ...]  # names of the subfolders; empty for a folder of bare images
    names: list[str]  # relative to ``base``
    labels: NDArray[np.int64]  # (N,), -1 = none
    digest: str  # sha256 over names, sizes and times of change: has the folder changed?


def is_listed(data: str) -> bool:
    """Whether ``list_real`` is for it: a folder, or a name of ``FOLDER_SETS``."""
    return data in FOLDER_SETS or Path(data).is_dir()


def list_real(data: str, root: Path | None, split: str) -> Listing:
    """List a folder, or a set of ``FOLDER_SETS`` under ``root``. Without a root such a name may be a folder's.

    Raises:
        DataError: it is not there, or there is nothing to list.
    """
    if data in FOLDER_SETS and not (root is None and Path(data).is_dir()):
        folder, classes = find_folder(data, root)
        return list_images(folder, split, name=data, classes=classes)
    return list_images(Path(data), split)


def list_images(folder: Path, split: str, *, name: str | None = None, classes: Sequence[str] | None = None) -> Listing:
    """List ``folder`` (its ``train/``, or ``test/`` or ``val/``, where there are such): one subfolder a class, or bare images.

    Args:
        folder: where the images lie.
        split: ``train`` or ``test``.
        name: of the set; by default the folder's.
        classes: only these subfolders, in this order.

    Raises:
        DataError: nothing to list, or a class is missing.
    """
    base = split_folder(folder, split)
    there = sorted(entry.name for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith("."))
    if missing := sorted(set(classes or ()) - set(there)):
        raise DataError(f"{base}: no folder of {len(missing)} of {len(classes or ())} classes, e.g. {missing[0]}")
    classes = there if classes is None else classes
    names: list[str] = []
    labels: list[int] = []
    digest = hashlib.sha256()
    for label, class_name in enumerate(classes) if classes else [(-1, "")]:
        found = sorted(_images(base / class_name), key=lambda entry: entry.name)
        if classes and not found:
            raise DataError(f"{base / class_name}: no images in this class folder")
        for entry in found:
            facts = entry.stat()
            relative = f"{class_name}/{entry.name}" if class_name else entry.name
            names.append(relative)
            labels.append(label)
            digest.update(f"{relative}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode(errors="surrogateescape"))
    if not names:
        raise DataError(f"{base}: no images ({', '.join(IMAGE_SUFFIXES)}) found")
    return Listing(
        name=name or folder.resolve().name,
        base=base,
        classes=tuple(classes),
        names=names,
        labels=np.asarray(labels, dtype=np.int64),
        digest=digest.hexdigest(),
    )


def _images(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [
            entry for entry in entries if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file()
        ]
