"""How large a shard becomes: FFCV writes whole pages only (``genrep.datasets_manifest.layout``)."""

from __future__ import annotations

from math import prod
from typing import Any

from genrep.datasets_manifest.layout import (
    ALLOCATION,
    DESCRIPTOR,
    HEADER,
    MAX_PAGE,
    MIN_PAGE,
    is_jpeg,
    largest_shape,
    record_dtype,
    stored_fields,
)
from genrep.errors import RecipeError


def page_size(table: list[dict[str, Any]], largest: int | None = None) -> int:
    """The smallest page that holds any sample of these fields (all of a sample lies in one page).

    ``largest``: bytes of the largest sample's raw images, where these vary in size; None: it follows from the fields.
    """
    largest = sum(_raw_bytes(row) for row in stored_fields(table)) if largest is None else largest
    size = MIN_PAGE
    while size < 2 * largest:  # a JPEG may outgrow the raw image
        size *= 2
    if size > MAX_PAGE:
        raise RecipeError(
            f"a sample of {largest} bytes does not fit FFCV's largest page: fewer positives or smaller images"
        )
    return size


def shard_bytes(table: list[dict[str, Any]], count: int, jpeg_bytes: float = 0.0) -> int:
    """Bytes of a shard of ``count`` samples: exact for raw images.

    Args:
        jpeg_bytes: of all JPEG images of a sample, on average.
    """
    page, stored = page_size(table), stored_fields(table)
    sample = jpeg_bytes + sum(_raw_bytes(row) for row in stored if not is_jpeg(row))
    tables = HEADER.size + DESCRIPTOR.size * len(table) + record_dtype(table).itemsize * count
    pages = -(-tables // page) + -(-count // int(page // sample))
    return pages * page + ALLOCATION.itemsize * len(stored) * count


def _raw_bytes(row: dict[str, Any]) -> int:
    return prod(largest_shape(row)) * (4 if row["kind"] == "float32" else 1)
