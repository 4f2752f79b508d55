"""The inner loops of reading shards, compiled by Numba: no Python and no interpreter lock per image.

A batch is gathered sample by sample, all fields of a sample before the next: they lie side by side in the file, so that
each visit of a random place in memory is used to the end. The decoder is FFCV's own, libturbojpeg, called without FFCV's
wrapper, which drops its error codes: here a picture that does not decode is told, not replaced by another's. And with the
accurate DCT instead of the fast one, which is no faster and loses up to 9 dB (docs/encoding.md). Where the system has no
libturbojpeg, ``simplejpeg`` brings one: the same pixels, a few microseconds of Python per image more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from genrep.images import turbojpeg
from genrep.images.jpeg import MOST_SCANS, frame_header

GOOD, OUTSIDE, NO_JPEG, OTHER_SIZE, BROKEN, MANY_SCANS = range(6)
REASONS = {
    OUTSIDE: "lies outside its file",
    NO_JPEG: "is not a JPEG",
    OTHER_SIZE: "is a JPEG of another size than the manifest says",
    BROKEN: "is a damaged JPEG",
    MANY_SCANS: f"is a JPEG of more than {MOST_SCANS} scans",
}
_RGB, _ACCURATE_DCT = turbojpeg.RGB, turbojpeg.ACCURATE_DCT


@cache
def copier() -> Callable[..., int]:
    """``copy(pointers, bases, lengths, per_shard, rows, places, columns, sizes, targets, strides) -> fault``.

    For sample ``rows[i]`` and slot ``j``, ``sizes[j]`` bytes from ``pointers[rows[i], columns[i, j]]`` of the sample's file on
    go to the address ``targets[j] + places[i] · strides[j]``. File ``k`` holds rows ``k · per_shard`` and up, mapped at
    ``bases[k]``, ``lengths[k]`` bytes long. The fault is 0, or where it stopped and why: ``(i · slots + j) · 8 + reason``.
    """
    copy_bytes = ctypes.CDLL(None).memcpy
    copy_bytes.argtypes, copy_bytes.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p

    def copy(  # type: ignore[no-untyped-def]
        pointers, bases, lengths, per_shard, rows, places, columns, sizes, targets, strides
    ):
        for i in range(len(rows)):
            row = rows[i]
            if row < 0 or row >= pointers.shape[0]:
                return i * len(sizes) * 8 + OUTSIDE
            shard = row // per_shard
            for j in range(len(sizes)):
                pointer = int(pointers[row, columns[i, j]])
                if pointer + sizes[j] > lengths[shard]:
                    return (i * len(sizes) + j) * 8 + OUTSIDE
                copy_bytes(targets[j] + places[i] * strides[j], bases[shard] + pointer, sizes[j])
        return GOOD

    return _compiled(copy)


@cache
def jpeg_decoder() -> Callable[..., int]:
    """``decode(pointers, bytes, bases, lengths, per_shard, rows, places, columns, height, width, targets, strides) -> fault``.

    As ``copier``, for JPEGs of ``bytes[rows[i], columns[i, j]]`` bytes; the targets receive RGB.
    """
    library = turbojpeg.library()
    return _by_simplejpeg() if library is None else _by_libturbojpeg(library)


def _by_libturbojpeg(library: ctypes.CDLL) -> Callable[..., int]:
    start, stop, decompress = library.tjInitDecompress, library.tjDestroy, library.tjDecompress2
    header, frame_fault = library.tjDecompressHeader3, _frame_fault()

    def decode(  # type: ignore[no-untyped-def]  # noqa: PLR0913  compiled functions take arrays, and no records of them
        handle,
        told,
        at,
        pointers,
        bytes,
        bases,
        lengths,
        per_shard,
        rows,
        places,
        columns,
        height,
        width,
        targets,
        strides,
    ):
        for i in range(len(rows)):
            row = rows[i]
            if row < 0 or row >= pointers.shape[0]:
                return i * len(targets) * 8 + OUTSIDE
            shard = row // per_shard
            for j in range(len(targets)):
                fault = (i * len(targets) + j) * 8
                pointer, size = int(pointers[row, columns[i, j]]), int(bytes[row, columns[i, j]])
                if pointer + size > lengths[shard]:
                    return fault + OUTSIDE
                source, target = bases[shard] + pointer, targets[j] + places[i] * strides[j]
                found = frame_fault(source, size, height, width)
                if found != GOOD:
                    return fault + found
                # Once more by the decoder itself: a smaller picture would leave what lay in the buffer around it.
                if header(handle, source, size, at, at + 4, at + 8, at + 12) != 0:
                    return fault + BROKEN
                if told[0] != width or told[1] != height:
                    return fault + OTHER_SIZE
                if decompress(handle, source, size, target, width, 3 * width, height, _RGB, _ACCURATE_DCT) != 0:
                    return fault + BROKEN
        return GOOD

    compiled = _compiled(decode)

    def decode_with_own_handle(*arguments: Any) -> int:
        handle, told = start(), np.zeros(4, dtype=np.int32)  # width, height, subsampling, colour space
        try:
            return int(compiled(handle, told, told.ctypes.data, *arguments))
        finally:
            stop(handle)

    return decode_with_own_handle


def _by_simplejpeg() -> Callable[..., int]:
    """Other threads run while a picture is decoded, but not between two."""
    simplejpeg, frame_fault = import_module("simplejpeg"), _frame_fault()

    def fault_of(source: int, size: int, height: int, width: int, target: int) -> int:
        found = frame_fault(source, size, height, width)
        if found != GOOD:
            return int(found)
        data = (ctypes.c_ubyte * size).from_address(source)
        image = (ctypes.c_ubyte * (3 * height * width)).from_address(target)
        try:
            *told, space, _ = simplejpeg.decode_jpeg_header(data)
            if told != [height, width]:
                return OTHER_SIZE
            if space in ("CMYK", "YCCK"):  # which libturbojpeg does not turn into RGB
                return BROKEN
            simplejpeg.decode_jpeg(data, "RGB", buffer=image)
        except ValueError:
            return BROKEN
        return GOOD

    def decode(  # type: ignore[no-untyped-def]  # noqa: PLR0913  as the compiled one
        pointers, bytes, bases, lengths, per_shard, rows, places, columns, height, width, targets, strides
    ):
        for i, row in enumerate(rows.tolist()):
            if not 0 <= row < len(pointers):
                return i * len(targets) * 8 + OUTSIDE
            shard = row // per_shard
            for j, column in enumerate(columns[i].tolist()):
                pointer, size = int(pointers[row, column]), int(bytes[row, column])
                fault = OUTSIDE
                if pointer + size <= lengths[shard]:
                    target = int(targets[j] + places[i] * strides[j])
                    fault = fault_of(int(bases[shard]) + pointer, size, height, width, target)
                if fault:
                    return (i * len(targets) + j) * 8 + fault
        return GOOD

    return decode


@cache
def _frame_fault() -> Callable[..., int]:
    """``frame_fault(address, bytes, height, width)``: the fault of the JPEG at that address, by its markers."""
    view, read_header = _bytes_at(), _compiled(frame_header)

    def frame_fault(address, size, height, width):  # type: ignore[no-untyped-def]
        data = view(address, size)
        found, first = read_header(data, size)
        if found != (height << 16 | width):
            return NO_JPEG if found < 0 else OTHER_SIZE
        scans = 1
        if first > 0:
            for i in range(first, size - 1):
                if data[i] == 0xFF and data[i + 1] == 0xDA:
                    scans += 1
        return GOOD if scans <= MOST_SCANS else MANY_SCANS

    return _compiled(frame_fault)


def _bytes_at() -> Callable[..., Any]:
    """For compiled code: ``view(address, size)``, an array over memory that somebody else keeps."""
    numba, types = import_module("numba"), import_module("numba.core.types")

    def to_pointer(_: Any, address: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

        return types.voidptr(address), build

    pointer = import_module("numba.extending").intrinsic(to_pointer)

    # FFCV's loader makes the type of a C array of bytes read-only, in place and for everybody in the process (its os_cache.py;
    # Numba keeps one object per type). Functions compiled for that type before are then lost in Numba's tables, and whatever
    # calls them can no longer be compiled (KeyError). A Fortran array of one dimension is the same memory, and of a type of its
    # own.
    def view(address, size):  # type: ignore[no-untyped-def]
        return numba.farray(pointer(address), size, numba.uint8)

    return _compiled(view)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code at the first call, for the types of that call; other threads run beside it."""
    compiled: Callable[..., Any] = import_module("numba").njit(nogil=True)(function)
    return compiled
