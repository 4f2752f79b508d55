"""MNIST's file format, read where it lies: torchvision wants the unpacked files and cannot unpack on a read-only disk."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The image and label files of a split in torchvision's ``raw`` folder, packed or not; None if one is missing."""
    found = []
    for name in FILES[split]:
        path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found[0], found[1]


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an array of unsigned bytes with the given number of dimensions.

    Raises:
        DataError: the file is damaged or of another kind.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < header:
        raise DataError(f"{path}: not an IDX file of bytes with {dimensions} dimensions")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    if len(data) - header != np.prod(shape, dtype=object):
        raise DataError(f"{path}: {len(data) - header} bytes of values, wanted {shape}")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)
