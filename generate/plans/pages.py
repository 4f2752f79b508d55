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
    USUAL_PAGE,
    is_jpeg,
    largest_shape,
    record_dtype,
    stored_fields,
)
from genrep.errors import RecipeError

JPEG_TABLES = 4096  # bytes: what a JPEG has beside its picture, at most


def page_size(table: list[dict[str, Any]], content: float | None = None, *, largest: int | None = None) -> int:
    """The page of a shard with these fields. All of a sample lies in one page, and a file is whole pages: two at least.

    Args:
        content: bytes that a full shard holds, about (``plan.pair_bytes``): a page has at most half of it, so that a small
            shard takes little more than twice its content. None: 2 MiB, FFCV's own least, and what all shards had before.
        largest: of the largest sample's raw images, in bytes, where these vary in size; None: it follows from the fields.

    Raises:
        RecipeError: a sample is too large for any page.
    """
    largest = sum(_raw_bytes(row) for row in stored_fields(table)) if largest is None else largest
    size = USUAL_PAGE
    while size < 2 * largest:  # a JPEG may outgrow the raw image
        size *= 2
    if size > MAX_PAGE:
        raise RecipeError(
            f"a sample of {largest} bytes does not fit FFCV's largest page: fewer positives or smaller images"
        )
    if content is None:
        return size
    least, page = 2 * largest + JPEG_TABLES * sum(map(is_jpeg, table)), MIN_PAGE
    while page < size and (page < least or 4 * page <= content):
        page *= 2
    return page


def small_page(table: list[dict[str, Any]], content: float, *, largest: int | None = None) -> dict[str, int]:
    """For a plan's facts: ``{"page_size": bytes}`` of shards with less than the usual page, nothing for all others."""
    page = page_size(table, content, largest=largest)
    return {"page_size": page} if page < page_size(table, largest=largest) else {}


def shard_bytes(table: list[dict[str, Any]], count: int, page: int, jpeg_bytes: float = 0.0) -> int:
    """Bytes of a shard of ``count`` samples: exact for raw images.

    Args:
        page: see ``page_size``.
        jpeg_bytes: of all JPEG images of a sample, on average.
    """
    stored = stored_fields(table)
    sample = jpeg_bytes + sum(_raw_bytes(row) for row in stored if not is_jpeg(row))
    tables = HEADER.size + DESCRIPTOR.size * len(table) + record_dtype(table).itemsize * count
    pages = -(-tables // page) + -(-count // int(page // sample))
    return pages * page + ALLOCATION.itemsize * len(stored) * count


def _raw_bytes(row: dict[str, Any]) -> int:
    return prod(largest_shape(row)) * (4 if row["kind"] == "float32" else 1)
