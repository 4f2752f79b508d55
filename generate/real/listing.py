"""The files of an image folder in a fixed order, without opening one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError
from genrep.real_images import IMAGE_SUFFIXES, split_folder


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Image files by class name, then file name: the order in which they get their numbers."""

    base: Path
    classes: tuple[str, ...]  # names of the subfolders; empty for a folder of bare images
    names: list[str]  # relative to ``base``
    labels: NDArray[np.int64]  # (N,), -1 = none
    digest: str  # sha256 over names, sizes and times of change: has the folder changed?


def list_images(folder: Path, split: str) -> Listing:
    """List ``folder`` (its ``train/``, or ``test/`` or ``val/``, where there are such): one subfolder a class, or bare images.

    Raises:
        DataError: nothing to list.
    """
    base = split_folder(folder, split)
    classes = sorted(entry.name for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith("."))
    names: list[str] = []
    labels: list[int] = []
    digest = hashlib.sha256()
    for label, name in enumerate(classes) if classes else [(-1, "")]:
        found = sorted(_images(base / name), key=lambda entry: entry.name)
        if classes and not found:
            raise DataError(f"{base / name}: no images in this class folder")
        for entry in found:
            facts = entry.stat()
            relative = f"{name}/{entry.name}" if name else entry.name
            names.append(relative)
            labels.append(label)
            digest.update(f"{relative}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode(errors="surrogateescape"))
    if not names:
        raise DataError(f"{base}: no images ({', '.join(IMAGE_SUFFIXES)}) found")
    return Listing(
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
