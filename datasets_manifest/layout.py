"""FFCV's file layout (format version 2), written down from a field table: no ffcv needed to know where everything lies.

    header 24 B | a descriptor of 1041 B per field | a record per sample | zeros to a page's boundary
    | data pages | allocation table, 24 B per stored image or latent, to the end of the file

Everything is little-endian. A record holds the fields in order, aligned as C would align them.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

VERSION = 2
HEADER = struct.Struct("<HHIQQ")  # version, number of fields, page size, number of samples, allocation table's offset
DESCRIPTOR = struct.Struct("<B16s1024s")  # type, name, arguments
MIN_PAGE = 1 << 21
MAX_PAGE = 1 << 31  # the largest power of two that the header can hold

TYPE_IDS = {"int": 1, "image": 2, "float32": 4}
TYPE_NAMES = {0: "float", 1: "int", 2: "image", 3: "bytes", 4: "array", 5: "json", 6: "tensor", 255: "custom"}
MODES = {"jpeg": 0, "raw": 1}

ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])  # 13 bytes, unaligned
RECORD_PARTS: dict[str, Any] = {"image": IMAGE, "float32": np.dtype("<u8"), "int": np.dtype("<i8")}


def descriptor(field: dict[str, Any]) -> bytes:
    """The descriptor that FFCV's writer makes for a field of the table, byte for byte."""
    arguments = b""
    if field["kind"] == "float32":
        shape = [*field["shape"], *([0] * (32 - len(field["shape"])))]
        dtype = json.dumps(np.dtype("<f4").descr).encode()
        arguments = struct.pack("<33Q", *shape, len(dtype)) + dtype
    return DESCRIPTOR.pack(TYPE_IDS[field["kind"]], field["name"].encode("ascii"), arguments)


def record_dtype(fields: list[dict[str, Any]]) -> np.dtype[Any]:
    """The record of a sample."""
    return np.dtype([(field["name"], RECORD_PARTS[field["kind"]]) for field in fields], align=True)


def stored_fields(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields whose values lie in data pages, behind a pointer: images and latents."""
    return [field for field in fields if field["kind"] != "int"]


def is_jpeg(field: dict[str, Any]) -> bool:
    """Whether the field's images are JPEG files of varying size."""
    return field["kind"] == "image" and bool(field["encoding"] != "raw")


def size_limits(field: dict[str, Any]) -> tuple[int, int]:
    """Least and greatest size in bytes that a stored value of the field can have."""
    values = math.prod(field["shape"])
    if not is_jpeg(field):
        size = values * (4 if field["kind"] == "float32" else 1)
        return size, size
    return 1, 65536 + 2 * values  # twice raw plus headers: what no encoder exceeds, so that decoding stays cheap
