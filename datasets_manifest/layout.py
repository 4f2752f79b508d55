"""FFCV's file layout (format version 2), computed from a field table without ffcv.

    header 24 B | a descriptor of 1041 B per field | a record per sample | zeros to a page's boundary
    | data pages | allocation table, 24 B per stored image or latent, to the end of the file

Everything is little-endian. A record holds the fields in order, aligned as C would align them.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 2
HEADER = struct.Struct("<HHIQQ")  # version, number of fields, page size, number of samples, allocation table's offset
DESCRIPTOR = struct.Struct("<B16s1024s")  # type, name, arguments
MIN_PAGE = 1 << 12  # FFCV's writer makes none below USUAL_PAGE; its readers take any
USUAL_PAGE = 1 << 21
MAX_PAGE = 1 << 31  # the largest power of two that the header can hold

TYPE_IDS = {"float": 0, "int": 1, "image": 2, "float32": 4}
TYPE_NAMES = {0: "float", 1: "int", 2: "image", 3: "bytes", 4: "array", 5: "json", 6: "tensor", 255: "custom"}
MODES = {"jpeg": 0, "raw": 1}

ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])  # 13 bytes, unaligned
MAX_SHAPE = "max_shape"  # the key that an image field has instead of ``shape`` where images vary in size
STORED = "stored"  # the key, always false, of a latent that recipe and index give back
RECORD_PARTS: dict[str, Any] = {
    "image": IMAGE,
    "float32": np.dtype("<u8"),
    "float": np.dtype("<f8"),
    "int": np.dtype("<i8"),
}
IN_RECORDS = ("float", "int")  # kinds whose values stand in the record itself


def in_beton(fields: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields that a shard holds: all but the latents that are not stored."""
    return [field for field in fields if STORED not in field]


def not_stored(fields: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latents that recipe and index give back: no shard holds them."""
    return [field for field in fields if STORED in field]


def varies(field: dict[str, Any]) -> bool:
    """Whether each image of the field has a size of its own."""
    return MAX_SHAPE in field


def largest_shape(field: dict[str, Any]) -> list[int]:
    """[height, width, 3] of a field's images, or the largest of each if they vary; the shape of a latent."""
    return list(field[MAX_SHAPE if varies(field) else "shape"])


def shape_in_words(field: dict[str, Any]) -> str:
    """``32 x 32 x 3``, ``up to 256 x 512 x 3`` where images vary in size, nothing for a number."""
    if field["kind"] in IN_RECORDS:
        return ""
    sides = " x ".join(map(str, largest_shape(field)))
    return f"up to {sides}" if varies(field) else sides


def descriptor(field: dict[str, Any]) -> bytes:
    """The descriptor that FFCV's writer makes for a field of the table, byte for byte."""
    arguments = b""
    if field["kind"] == "float32":
        shape = [*field["shape"], *([0] * (32 - len(field["shape"])))]
        dtype = json.dumps(np.dtype("<f4").descr).encode()
        arguments = struct.pack("<33Q", *shape, len(dtype)) + dtype
    return DESCRIPTOR.pack(TYPE_IDS[field["kind"]], field["name"].encode("ascii"), arguments)


def record_dtype(fields: Sequence[dict[str, Any]]) -> np.dtype[Any]:
    """The record of a sample, given the field table."""
    return np.dtype([(field["name"], RECORD_PARTS[field["kind"]]) for field in in_beton(fields)], align=True)


def stored_fields(fields: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields whose values lie in data pages, behind a pointer: images and stored latents."""
    return [field for field in in_beton(fields) if field["kind"] not in IN_RECORDS]


def is_jpeg(field: dict[str, Any]) -> bool:
    """Whether the field's images are JPEG files of varying size."""
    return field["kind"] == "image" and bool(field["encoding"] != "raw")


def size_limits(field: dict[str, Any]) -> tuple[int, int]:
    """Least and greatest size in bytes that a stored value of the field can have."""
    low, high = _limits(field, math.prod(largest_shape(field)))
    return (1 if varies(field) else low), high


def sizes_limits(field: dict[str, Any], records: NDArray[Any]) -> tuple[Any, Any]:
    """``size_limits`` of each record, given the column of the field. Shape: two of ``(count,)``, or two numbers."""
    if not varies(field):
        return size_limits(field)
    return _limits(field, records["height"].astype(np.uint64) * records["width"] * np.uint64(3))


def _limits(field: dict[str, Any], values: Any) -> tuple[Any, Any]:
    if not is_jpeg(field):
        size = values * (4 if field["kind"] == "float32" else 1)
        return size, size
    return 1, 65536 + 2 * values  # twice raw plus headers: what no encoder exceeds, so that decoding stays cheap
