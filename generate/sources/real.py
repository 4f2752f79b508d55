"""Pixels of real images by their number: from files, or from arrays that are in memory already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest.schema import MAX_SIDE, MIN_VARYING_SIDE
from genrep.errors import DataError
from genrep.images.reading import fit, read_rgb

from .base import Batch

if TYPE_CHECKING:
    from PIL.Image import Image


class FileSource:
    """Images of files, resized (Pillow, bicubic with antialiasing): to one shape, or each in its own."""

    def __init__(
        self,
        base: Path,
        names: list[str],
        labels: NDArray[np.int64],
        fitting: Fitting,
        batch_size: int,
    ) -> None:
        self.base, self.names, self.labels = base, names, labels
        self.fitting, self.batch_size = fitting, batch_size

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source``."""
        for start in range(first, first + count, self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, first + count), dtype=np.int64)
            images = [self._read(self.base / self.names[i]) for i in indices]
            yield Batch(indices=indices, labels=self.labels[indices], images=[images], latents=[])

    def halve_batch(self) -> None:
        """See ``Source``."""
        self.batch_size //= 2

    def _read(self, path: Path) -> NDArray[np.uint8]:
        try:
            image = read_rgb(path)
        except DataError as error:
            raise DataError(f"{error}: changed since it was looked at") from error
        return np.asarray(self.fitting(image))


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What becomes of an image: cut and resized to ``shape`` by ``fit``, or kept whole by ``whole_shapes``."""

    shape: tuple[int, int] | None = None
    crop: str = "center"
    shorter_side: int | None = None

    def __call__(self, image: Image) -> Image:
        """The image that is stored."""
        from PIL.Image import Resampling

        if self.shorter_side is None:
            assert self.shape is not None
            return fit(image, self.shape, self.crop)
        height, width = whole_shapes(np.array([[image.height, image.width]]), self.shorter_side)[0].tolist()
        return image if image.size == (width, height) else image.resize((width, height), Resampling.BICUBIC)


def whole_shapes(shapes: NDArray[np.int64], shorter_side: int) -> NDArray[np.int64]:
    """Height and width of whole images whose shorter side has at most ``shorter_side`` pixels: smaller ones stay as they are.

    The longer side keeps the proportions, rounded down as torchvision's ``Resize`` does. No side gets below
    ``MIN_VARYING_SIDE`` or above ``MAX_SIDE`` pixels. Shape: ``(N, 2) -> (N, 2)``.
    """
    short = shapes.min(axis=1, keepdims=True)
    resized = np.where(shapes == short, shorter_side, shapes * shorter_side // np.maximum(short, 1))
    return np.clip(np.where(short > shorter_side, resized, shapes), MIN_VARYING_SIDE, MAX_SIDE)


class ArraySource:
    """Images of a named dataset, in memory."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source``."""
        for start in range(first, first + count, self.batch_size):
            rows = slice(start, min(start + self.batch_size, first + count))
            indices = np.arange(rows.start, rows.stop, dtype=np.int64)
            yield Batch(indices=indices, labels=self.labels[rows], images=[self.images[rows]], latents=[])

    def halve_batch(self) -> None:
        """See ``Source``."""
        self.batch_size //= 2


@dataclass(frozen=True, kw_only=True)
class OpenFiles:
    """Opens a FileSource in any process."""

    base: Path
    names: list[str]
    labels: NDArray[np.int64]
    fitting: Fitting
    batch_size: int

    def __call__(self) -> FileSource:
        """The source."""
        return FileSource(self.base, self.names, self.labels, self.fitting, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class OpenArrays:
    """Opens an ArraySource in any process."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    batch_size: int

    def __call__(self) -> ArraySource:
        """The source."""
        return ArraySource(self.images, self.labels, self.batch_size)
