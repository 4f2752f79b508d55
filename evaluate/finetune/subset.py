"""Which training images have labels: the same part of every class, or a published list."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genrep.errors import DataError
from genrep.images.labelled import LabelledImages
from genrep.seeding import derive
from genrep.untrusted import MAX_TEXT, read_bounded

from ..images import Ints
from .config import parse_labels


def choose_labelled(data: LabelledImages, labels: str, seed: int) -> Ints:
    """Rows of a class-balanced part, in order: of each class the rounded part, at least one, or so many.

    Raises DataError if a class has fewer.
    """
    part, count = parse_labels(labels)
    key = derive("labelled", seed)
    stream = np.random.RandomState([key & 0xFFFFFFFF, key >> 32])
    chosen = []
    for label, name in enumerate(data.classes):
        rows = stream.permutation(np.flatnonzero(data.labels == label))
        wanted = count if count is not None else max(1, round(len(rows) * (part or 0)))
        if wanted > len(rows):
            raise DataError(f"--labels {labels}: class {name} of {data.name} has {len(rows)} training images")
        chosen.append(rows[:wanted])
    return np.sort(np.concatenate(chosen))


def read_subset(data: LabelledImages, path: Path) -> Ints:
    """Rows of the file names in a list, one per line, with or without folders (SimCLR: ``n01440764_10074.JPEG``).

    Raises DataError: the list cannot be read, is empty, names a file twice or one that is not there, or leaves a class out.
    """
    if data.paths is None:
        raise DataError(f"--subset {path}: {data.name} has no file names; wanted --labels")
    try:
        lines = read_bounded(path, MAX_TEXT, DataError, follow=True).decode().split()
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"--subset {path}: cannot be read ({error})") from error
    numbers = {Path(name).name: i for i, name in enumerate(data.paths)}
    if len(numbers) < len(data):
        raise DataError(f"--subset {path}: file names of {data.name} occur in several classes; wanted --labels")
    names = [line.rpartition("/")[2] for line in lines]
    if unknown := [name for name in names if name not in numbers]:
        raise DataError(
            f"--subset {path}: {len(unknown)} of {len(names)} files are not in {data.name}, e.g. {unknown[0]}"
        )
    if not names or len(set(names)) < len(names):
        raise DataError(f"--subset {path}: wanted file names, each once")
    rows = np.sort(np.array([numbers[name] for name in names], dtype=np.int64))
    missing = np.setdiff1d(np.arange(len(data.classes)), data.labels[rows])
    if len(missing):
        raise DataError(f"--subset {path}: no image of {len(missing)} classes, e.g. {data.classes[missing[0]]}")
    return rows
