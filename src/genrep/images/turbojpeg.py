"""libjpeg-turbo, where the system has it, and the JPEG files that a dataset stores.

The same bytes come out of every build of libjpeg-turbo that is asked for the accurate DCT: the system's libturbojpeg, Pillow's
and OpenCV's, which FFCV's own writer uses. (``simplejpeg`` encodes with the fast DCT below quality 96: it only decodes here.)
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import threading
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RGB, S444, S420 = 0, 0, 2  # TJPF_RGB, TJSAMP_444, TJSAMP_420
ACCURATE_DCT, NO_REALLOC = 4096, 1024  # TJFLAG_…
SONAMES = ("libturbojpeg.so.0", "libturbojpeg.so", "libturbojpeg.dylib")


@cache
def library() -> ctypes.CDLL | None:
    """The system's libturbojpeg, its functions declared; None where it has none."""
    return search()


def search() -> ctypes.CDLL | None:
    """Under the names it has, then by the linker's own search, which starts programs."""
    for name in chain(SONAMES, map(ctypes.util.find_library, ["turbojpeg"])):
        try:
            if name is not None:
                return _declared(ctypes.CDLL(name))
        except (OSError, AttributeError):  # not there, or of before 2013
            continue
    return None


def _declared(turbo: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_ulong
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "tjInitDecompress": (pointer, ()),
        "tjInitCompress": (pointer, ()),
        "tjDestroy": (number, (pointer,)),
        "tjBufSize": (long, (number, number, number)),
        "tjDecompressHeader3": (number, (pointer, pointer, long, *(pointer,) * 4)),
        "tjDecompress2": (number, (pointer, pointer, long, pointer, *(number,) * 5)),
        "tjCompress2": (number, (pointer, pointer, *(number,) * 4, pointer, pointer, *(number,) * 3)),
        "tjGetErrorStr": (ctypes.c_char_p, ()),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(turbo, name)
        function.restype, function.argtypes = result, arguments
    return turbo


def encode_jpeg(image: NDArray[np.uint8], quality: int, *, full_chroma: bool) -> bytes:
    """A JPEG file, baseline, with chroma at half the resolution (4:2:0) unless ``full_chroma``. Shape: ``(H, W, 3)``."""
    return (_by_pillow if library() is None else _by_libturbojpeg)(image, quality, full_chroma)


def jpeg_encoder() -> str:
    """Which library ``encode_jpeg`` uses, for the record."""
    if (turbo := library()) is not None:
        maps = Path("/proc/self/maps")  # the file that the name led to, where the system tells; macOS does not
        lines = maps.read_text().splitlines() if maps.exists() else []
        return Path(next((line.split()[-1] for line in lines if "libturbojpeg" in line), turbo._name)).name
    from PIL import features

    return f"pillow, libjpeg-turbo {features.version('libjpeg_turbo') or 'none'}"


class _Compressor:
    """A handle and a buffer; a thread has its own, since libturbojpeg shares none."""

    def __init__(self, turbo: ctypes.CDLL) -> None:
        self.handle, self.destroy, self.buffer = turbo.tjInitCompress(), turbo.tjDestroy, ctypes.create_string_buffer(1)

    def __del__(self) -> None:
        self.destroy(self.handle)


_threads = threading.local()


def _by_libturbojpeg(image: NDArray[np.uint8], quality: int, full_chroma: bool) -> bytes:
    turbo = library()
    assert turbo is not None
    if not hasattr(_threads, "compressor"):
        _threads.compressor = _Compressor(turbo)
    own, image = _threads.compressor, np.ascontiguousarray(image)
    height, width, _ = image.shape
    sampling = S444 if full_chroma else S420
    most = turbo.tjBufSize(width, height, sampling)
    if len(own.buffer) < most:
        own.buffer = ctypes.create_string_buffer(most)
    target, size = ctypes.c_void_p(ctypes.addressof(own.buffer)), ctypes.c_ulong(most)
    picture = (image.ctypes.data, width, 3 * width, height, RGB)
    into = (ctypes.byref(target), ctypes.byref(size))
    if turbo.tjCompress2(own.handle, *picture, *into, sampling, quality, ACCURATE_DCT | NO_REALLOC) != 0:
        raise ValueError(f"an image of {height} x {width}: {turbo.tjGetErrorStr().decode(errors='replace')}")
    return ctypes.string_at(own.buffer, size.value)


def _by_pillow(image: NDArray[np.uint8], quality: int, full_chroma: bool) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0 if full_chroma else 2)
    return file.getvalue()
