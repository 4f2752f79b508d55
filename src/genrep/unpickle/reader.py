"""Weights files in the formats of pickle and torch, read without running anything that they name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from genrep.errors import WeightsError
from genrep.untrusted import open_regular, read_at

_WANTED = "a pickle or a checkpoint of torch is wanted"
_OTHERS = {  # by their first bytes
    b"\x89HDF\r\n": "an HDF5 file (Keras, TensorFlow)",
    b"version https://git-lfs": "a pointer of git-lfs instead of the file",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"\x1f\x8b": "compressed by gzip",
    b"GGUF": "a GGUF file",
}
_ONNX = re.compile(rb"\x08[\x01-\x1f](?:\x12[\x00-\x7f][\x20-\x7e]|:|\x42)")  # a version, then a name or the graph


def read_file(path: Path, *, scripts: bool = False) -> Any:
    """Read the object in a pickle (protocols 0 to 5) or in a checkpoint of torch (zip or older) without running its code.

    Dictionaries, ordered or EasyDict -> dict; tensors and parameters -> torch.Tensor (CPU, no gradient, dtype kept;
    those that shared a storage still do); a bare storage -> 1-D tensor; arrays -> np.ndarray; NumPy's scalars ->
    np.generic; torch.Size -> tuple; byte strings of 4 KiB or more -> read-only memoryview. Everything else is an inert
    ``Opaque`` or ``Global``. Containers may contain themselves, as in any pickle.

    Peak memory is twice the file (three times in protocols 0 to 2), and what the objects take. A hostile file can make
    that some five times the file and half a gigabyte, and take some seconds.

    ``scripts``: of a TorchScript program, read the modules with their tensors too. Its code is never looked at.

    Raises WeightsError, in one line, for files that are missing, damaged, hostile, or of another format.
    """
    from .limits import Malformed, ReadingLimits, check_nesting
    from .torch_formats import read_pickle, read_zip

    data = memoryview(_read(path)).toreadonly()
    for first, what in _OTHERS.items():
        if bytes(data[: len(first)]) == first:
            raise WeightsError(f"weights {path}: it is {what}; {_WANTED}")
    if path.suffix == ".onnx" or _ONNX.match(data[:8]):
        raise WeightsError(
            f"weights {path}: it is an ONNX graph; save the network that it was exported from; {_WANTED}"
        )
    limits = ReadingLimits(len(data))
    try:
        found = (
            read_zip(data, limits, scripts=scripts) if bytes(data[:4]) == b"PK\x03\x04" else read_pickle(data, limits)
        )
        check_nesting(found)
        return found
    except Malformed as error:
        # Before protocol 2 pickles had no mark of their own, so that any file may be meant.
        reading = "" if bytes(data[:1]) in (b"\x80", b"P") else "read as a pickle of protocol 0 or 1, "
        raise WeightsError(f"weights {path}: {reading}{error}; {_WANTED}") from None
    except MemoryError:
        raise WeightsError(f"weights {path}: there is not enough memory for its {len(data)} bytes") from None


def _read(path: Path) -> bytearray:
    try:
        descriptor = open_regular(path, WeightsError, follow=True)
    except WeightsError as error:
        raise WeightsError(f"weights {error}; {_WANTED}") from None
    try:
        return read_at(descriptor, os.fstat(descriptor).st_size, 0)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise WeightsError(f"weights {path}: cannot be read ({reason}); {_WANTED}") from None
    finally:
        os.close(descriptor)
