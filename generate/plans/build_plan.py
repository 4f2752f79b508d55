"""The plan of a build, resolved before anything is written: the manifest's recipe, the shards' index ranges, and their sizes.

FFCV writes whole pages only (``genrep.datasets_manifest.layout``): a shard's size follows from that of its page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
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
from genrep.files import digest_json
from genrep.option_types import whole_number

from .tables import PlannedTable

DEFAULT_SHARD_BYTES = 512_000_000
DEFAULT_MIN_SHARDS = 16
JPEG_BYTES_PER_PIXEL = (
    0.5  # assumed when a shard size in bytes becomes pairs, so that the number follows from the recipe alone
)
JPEG_TABLES = 4096  # most bytes of a JPEG besides its picture
MAX_SHARDS = 50_000  # a manifest holds about 700 bytes per shard, and readers accept at most 64 MB
UNITS = {"KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """A shard that is to be built: pairs ``first_index`` .. ``first_index + count - 1``."""

    number: int
    first_index: int
    count: int


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """A resolved recipe and all that follows from it; the same for pairs of a generator and for real images."""

    recipe: dict[str, Any]
    fields: list[dict[str, Any]]  # the manifest's field table
    classes: tuple[str, ...]  # names of the labels
    facts: dict[str, Any] = field(default_factory=dict)  # for the manifest's build: licence, where weights came from
    largest_sample: int | None = None  # bytes of the largest sample's raw images, if they vary in size
    tables: tuple[PlannedTable, ...] = ()  # that lie beside the shards

    @property
    def id(self) -> str:
        """The dataset's identity: sha256 of the recipe."""
        return digest_json(self.recipe)

    @property
    def page_size(self) -> int:
        """Bytes of a page of its shards (``page_size``)."""
        return int(self.facts.get("page_size") or page_size(self.fields, largest=self.largest_sample))

    @property
    def unit(self) -> str:
        """The unit of counting: pairs of a generator, or real images."""
        return "image" if "source" in self.recipe else "pair"

    @property
    def num_pairs(self) -> int:
        """Pairs in the whole dataset."""
        return int(self.recipe["num_pairs"])

    @property
    def num_shards(self) -> int:
        """Shards in the whole dataset."""
        return -(-self.num_pairs // int(self.recipe["pairs_per_shard"]))

    def shard(self, number: int) -> ShardPlan:
        """The range of one shard; only the last may be shorter."""
        size = int(self.recipe["pairs_per_shard"])
        first = number * size
        return ShardPlan(number=number, first_index=first, count=min(size, self.num_pairs - first))


def pair_bytes(fields: list[dict[str, Any]], *, image_pixels: float | None = None) -> float:
    """Bytes of one pair in a shard, tables included but not what fills pages: exact for raw images, an assumption for JPEG.

    ``image_pixels``: of an image on average, where they vary in size.
    """
    total = 0.0
    for row in fields:
        if row["kind"] == "image":
            pixels = prod(largest_shape(row)[:2]) if image_pixels is None else image_pixels
            total += 16 + 24 + pixels * (3 if row["encoding"] == "raw" else JPEG_BYTES_PER_PIXEL)
        elif row["kind"] == "float32" and row.get("stored", True):
            total += 8 + 24 + 4 * prod(row["shape"])
        elif row["kind"] == "float32":
            continue
        else:
            total += 8
    return total


def shard_pairs(size: str | None, num_pairs: int, bytes_per_pair: float) -> int:
    """Pairs in a shard from ``--shard-size``: a number of pairs, or of bytes with a unit; by default at least 16 shards.

    Raises:
        RecipeError: the size is neither, or zero.
    """
    if size is None:
        by_count = max(1, num_pairs // DEFAULT_MIN_SHARDS)
        return min(by_count, max(1, int(DEFAULT_SHARD_BYTES // bytes_per_pair)))
    match = re.fullmatch(r"(.+?)(KB|MB|GB)?", size)
    try:
        number = whole_number(match[1]) if match else 0
    except ValueError:
        number = 0
    if match is None or number < 1:
        raise RecipeError.naming("{shard_size} {!r}: wanted a number of pairs, or of bytes like 512MB", size)
    pairs = number if match[2] is None else max(1, int(number * UNITS[match[2]] // bytes_per_pair))
    if -(-num_pairs // pairs) > MAX_SHARDS:
        raise RecipeError.naming(
            "{shard_size} {}: {} shards, wanted at most {}", size, -(-num_pairs // pairs), MAX_SHARDS
        )
    return min(pairs, num_pairs)


def page_size(table: list[dict[str, Any]], content: float | None = None, *, largest: int | None = None) -> int:
    """The page of a shard with these fields. All of a sample lies in one page, and a file is whole pages: two at least.

    Args:
        content: bytes that a full shard holds, about (``pair_bytes``): a page has at most half of it, so that a small
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
