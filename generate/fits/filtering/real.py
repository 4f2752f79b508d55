"""Real images that a discriminator is shown: of a named set, in memory; of a folder, decoded when their turn comes."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from genrep.errors import DataError
from genrep.images.labelled import RealImages, read_image
from genrep.images.listing import Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Image = NDArray[np.uint8]


class RealSet(Protocol):
    """Images of one shape, by their numbers."""

    name: str
    licence: str
    sha256: str  # what the images are: of the pixels, or of the files' names, sizes and times of change

    def __len__(self) -> int: ...

    def expect(self, rows: Ints) -> None:
        """Say what ``read`` will be asked for next, so that it need not wait."""

    def read(self, rows: Ints) -> Tensor:
        """Some of them. Shape: ``(B,) -> (B, H, W, 3)`` uint8, on the CPU."""


class InMemory:
    """Images that are pixels already."""

    def __init__(self, real: RealImages) -> None:
        self.name, self.licence = real.name, real.licence
        self.pixels = torch.from_numpy(np.ascontiguousarray(real.images))  # (N, H, W, 3) uint8
        self.sha256 = hashlib.sha256(self.pixels.numpy().data).hexdigest()

    def __len__(self) -> int:
        return len(self.pixels)

    def expect(self, rows: Ints) -> None:
        """See ``RealSet``."""

    def read(self, rows: Ints) -> Tensor:
        """See ``RealSet``."""
        return self.pixels[torch.from_numpy(rows)]


class InFiles:
    """Image files, of which only those are decoded that are asked for, by a thread for each core."""

    licence = "unknown"

    def __init__(self, listing: Listing, shape: tuple[int, int], wanted: str) -> None:
        self.listing, self.shape, self.wanted = listing, shape, wanted  # wanted: whose shape that is, in words
        self.name, self.sha256 = listing.name, listing.digest
        self.size = shape[0] if shape[0] == shape[1] else None
        self.pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self.expected: tuple[Ints, list[Future[Image]]] | None = None

    def __len__(self) -> int:
        return len(self.listing.names)

    def expect(self, rows: Ints) -> None:
        """See ``RealSet``."""
        self.expected = rows, [self.pool.submit(self._decode, int(i)) for i in rows]

    def read(self, rows: Ints) -> Tensor:
        """See ``RealSet``. Raises DataError if an image cannot be read or is of another shape."""
        if self.expected is None or not np.array_equal(self.expected[0], rows):
            self.expect(rows)
        assert self.expected is not None
        futures, self.expected = self.expected[1], None
        return torch.from_numpy(np.stack([future.result() for future in futures]))

    def _decode(self, i: int) -> Image:
        path = self.listing.base / self.listing.names[i]
        image = read_image(path, self.size)
        if image.shape[:2] != self.shape:
            found = "x".join(map(str, image.shape[:2]))
            raise DataError(f"{path}: {found} pixels, those of {self.wanted} are {self.shape[0]}x{self.shape[1]}")
        return image
