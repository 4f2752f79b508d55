"""Labelled images by name or folder, in memory or on disk, decoded ahead by threads a few batches at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError, one_of
from genrep.images.files import ImageFiles, list_folder_pair
from genrep.images.inventory import Inventory, inventory_of_files, inventory_of_pixels, words_of
from genrep.images.labelled import NAMED, load_images
from genrep.images.photo_sets import MEAN_PER_CLASS, PHOTO_SETS, TOP1, load_photo_set
from genrep.images.reading import read_rgb

from .transforms import Pixels, Transform

if TYPE_CHECKING:
    from PIL.Image import Image

Ints = NDArray[np.int64]
AHEAD = 3  # batches that are decoded before they are asked for
CHUNK = 16  # images that a thread decodes at a time
DATASETS = (*sorted(NAMED), *sorted(PHOTO_SETS))
DOWNLOADABLE = {*NAMED, *(name for name, one in PHOTO_SETS.items() if one.downloads)}


@dataclass(frozen=True)
class LabelledImages:
    """Images of a split, with a label each."""

    name: str
    labels: Ints  # (N,)
    classes: tuple[str, ...]
    split: str  # which images these are, in words
    metric: str  # TOP1 or MEAN_PER_CLASS: what is usual for the set
    pixels: Pixels | None = None  # (N, H, W, 3), or
    files: ImageFiles | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def title(self) -> str:
        """Which images these are, in words."""
        return self.split

    def open(self, i: int) -> Image:
        """One image. Raises DataError if it cannot be read."""
        if self.files is not None:
            return read_rgb(self.files.paths[i])
        from PIL import Image

        assert self.pixels is not None
        return Image.fromarray(self.pixels[i])

    @cached_property
    def inventory(self) -> Inventory:
        """Every image with its label and the digest of its content. Raises DataError if a file cannot be read."""
        if self.files is not None:
            words = words_of(self.labels, self.classes)
            return inventory_of_files(self.files.paths, words, self.classes, what=f"{self.name}, {self.split}")
        assert self.pixels is not None
        return inventory_of_pixels(self.pixels, self.labels, self.classes)

    def take(self, rows: Ints, split: str) -> LabelledImages:
        """Some of them, with another description."""
        files = self.files
        if files is not None:
            paths = [files.paths[i] for i in rows]
            files = ImageFiles(
                name=files.name, paths=paths, labels=files.labels[rows], classes=files.classes, split=split
            )
        pixels = None if self.pixels is None else self.pixels[rows]
        return LabelledImages(self.name, self.labels[rows], self.classes, split, self.metric, pixels, files)


def load_pair(dataset: str, root: Path | None, *, download: bool = False) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images of a named dataset under ``root``, or of an image folder.

    Raises:
        MissingDataset: a named dataset is not there.
        DataError: unknown or unreadable, or classes and labels that do not go together.
    """
    if dataset in NAMED:
        return _in_memory(dataset, root, "train", download), _in_memory(dataset, root, "test", download)
    if dataset in PHOTO_SETS:
        train, test = load_photo_set(dataset, root, download=download)
        metric = PHOTO_SETS[dataset].metric
    else:
        if not Path(dataset).is_dir():
            raise DataError(f"--dataset {dataset!r}: neither a folder nor one of {one_of(dataset, DATASETS)}")
        train, test = list_folder_pair(Path(dataset))
        metric = TOP1
    if len(train.classes) < 2:
        raise DataError(f"--dataset {dataset}: one class only ({train.classes[0]}); wanted two or more")
    return _of_files(train, metric), _of_files(test, metric)


def _in_memory(dataset: str, root: Path | None, split: str, download: bool) -> LabelledImages:
    data = load_images(dataset, root, split, download=download)
    return LabelledImages(dataset, data.labels, data.classes, f"{split} split", TOP1, data.images)


def _of_files(files: ImageFiles, metric: str) -> LabelledImages:
    return LabelledImages(files.name, files.labels, files.classes, files.split, metric, None, files)


def whole_batches(
    data: LabelledImages, transform: Transform, batch_size: int, workers: int | None = None
) -> Iterator[Pixels]:
    """All images in order, without randomness. Shape of each: ``(<= batch_size, H, W, 3)``.

    Raises:
        DataError: an image cannot be read, or images come in several sizes.
    """
    starts = range(0, len(data), batch_size)
    if data.pixels is not None and transform.changes_nothing:
        yield from (data.pixels[start : start + batch_size] for start in starts)
        return
    rows = (np.arange(start, min(start + batch_size, len(data))) for start in starts)
    yield from decoded(rows, lambda i: transform(data.open(i)), data, workers)


def decoded(
    batches: Iterable[Ints], render: Callable[[int], Pixels], data: LabelledImages, workers: int | None = None
) -> Iterator[Pixels]:
    """``render`` of each row, by threads that work a few batches ahead; in order, whatever their number.

    Shape of each: ``(len(rows), H, W, 3)``.
    """

    def chunk(rows: Ints) -> list[Pixels]:
        return [render(int(i)) for i in rows]

    pending: deque[tuple[Ints, list[Future[list[Pixels]]]]] = deque()
    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="decode")
    try:
        for rows in batches:
            pending.append((rows, [pool.submit(chunk, rows[k : k + CHUNK]) for k in range(0, len(rows), CHUNK)]))
            if len(pending) > AHEAD:
                yield _together(*pending.popleft(), data)
        while pending:
            yield _together(*pending.popleft(), data)
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """One per core that this process may use."""
    return len(os.sched_getaffinity(0))


def _together(rows: Ints, parts: list[Future[list[Pixels]]], data: LabelledImages) -> Pixels:
    images = [image for part in parts for image in part.result()]
    for i, image in zip(rows, images):
        if image.shape != images[0].shape:
            where = data.files.paths[i] if data.files is not None else f"image {i}"
            (h0, w0), (h1, w1) = images[0].shape[:2], image.shape[:2]
            raise DataError(f"{where}: {h1}x{w1} pixels where others have {h0}x{w0}; give --size to resize them")
    return np.stack(images)


__all__ = [
    "DATASETS",
    "DOWNLOADABLE",
    "MEAN_PER_CLASS",
    "TOP1",
    "LabelledImages",
    "decoded",
    "load_pair",
    "whole_batches",
]
