"""MNIST's file format, read where it lies: torchvision wants the unpacked files and cannot unpack on a read-only disk."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..untrusted import one_line, open_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 1 << 31  # of values; the largest set published in this format has a third of it
CHUNK = 1 << 20
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
        with open(open_regular(path, DataError, follow=True), "rb") as file:
            return _values(gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({one_line(str(error))})") from error


def _values(file: IO[bytes] | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array, for which memory is taken as its bytes come."""
    header = file.read(4 + 4 * dimensions)
    if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path}: not an IDX file of bytes with {dimensions} dimensions")
    shape = tuple(int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    size = math.prod(shape)
    if size == 0:  # whatever the other sides are: NumPy refuses them when they are absurd
        raise DataError(f"{path}: its header claims no values, but {shape}")
    if size > MAX_BYTES:
        raise DataError(f"{path}: its header claims {size:,} bytes of values, wanted at most {MAX_BYTES:,}")
    data = bytearray()
    while len(data) <= size and (part := file.read(min(CHUNK, size + 1 - len(data)))):
        data += part
    if len(data) != size:
        found = f"more than {size}" if len(data) > size else len(data)
        raise DataError(f"{path}: {found} bytes of values, wanted {shape}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
