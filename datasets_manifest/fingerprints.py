"""Fingerprints: 2 KB of thumbnails per shard, which show whether another device made the same images.

Two kinds of device round differently: most images come out within a level of each other, and no digest of the bytes can
say so. A mean over an eighth of the picture's sides moves by far less than a level then, and by tens in another picture.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.seeding import derive

from .beton import Beton
from .contents import read_field
from .schema import MAX_THUMBNAIL_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = 4  # of a shard
ALL_THUMBNAILS = 20_000  # pairs of a whole dataset, at most: manifests of very many shards stay readable
MAX_LEVELS, MEAN_LEVELS = (
    8,
    1.0,
)  # levels by which fingerprints of the same images may differ: any value, and on average


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Levels (of 255) by which the values of two fingerprints differ."""

    largest: int
    mean: float

    @property
    def within_tolerance(self) -> bool:
        """Whether these are the same images, up to the rounding of a device and a decoder."""
        return self.largest <= MAX_LEVELS and self.mean <= MEAN_LEVELS


def chosen_indices(first_index: int, count: int, num_shards: int) -> list[int]:
    """The pairs of a shard that are compared, ascending, pseudo-random but fixed; none if the dataset has too many shards."""
    pairs = min(PAIRS, ALL_THUMBNAILS // num_shards)
    return sorted({first_index + derive("fingerprint", first_index, k) % count for k in range(pairs)})


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means over a grid, rounded, in integers. Shape: ``(H, W, 3) -> (min(8, H), min(8, W), 3)``."""
    rows, columns = _edges(image.shape[0]), _edges(image.shape[1])
    sums = np.add.reduceat(image, rows[:-1], axis=0, dtype=np.uint32)
    sums = np.add.reduceat(sums, columns[:-1], axis=1, dtype=np.uint32)
    counts = np.outer(np.diff(rows), np.diff(columns)).astype(np.uint32)[:, :, None]
    means: NDArray[np.uint8] = ((2 * sums + counts) // (2 * counts)).astype(np.uint8)
    return means


def _edges(side: int) -> NDArray[np.int64]:
    parts = min(MAX_THUMBNAIL_SIDE, side)
    return np.arange(parts + 1) * side // parts


def read_thumbnails(beton: Beton, indices: list[int]) -> NDArray[np.uint8]:
    """Thumbnails of the anchor, and of the first positive if there is one, of pairs of an open shard, as they are stored.

    Shape: ``(len(indices), 1 or 2, rows, columns, 3)``. Raises DatasetError for an image that cannot be decoded.
    """
    names = [name for name in ("anchor", "positive") if name in beton.fields]
    first = int(beton.samples["index"][0])
    return np.stack([[thumbnail(read_field(beton, i - first, name)) for name in names] for i in indices])


def make_fingerprint(
    path: Path, fields: list[dict[str, Any]], first_index: int, count: int, num_shards: int
) -> dict[str, Any] | None:
    """The fingerprint of a finished shard file, as its record holds it; None in a dataset of too many shards."""
    indices = chosen_indices(first_index, count, num_shards)
    if not indices:
        return None
    with Beton(path, fields, count, first_index) as beton:
        thumbnails = read_thumbnails(beton, indices)
    text = base64.b64encode(thumbnails.tobytes()).decode()
    return {"indices": indices, "size": list(thumbnails.shape[2:4]), "thumbnails": text}


def difference(one: dict[str, Any], other: dict[str, Any]) -> Difference | None:
    """Compare two fingerprints (checked ones); None if they are of other pairs or of another form."""
    first, second = (np.frombuffer(base64.b64decode(item["thumbnails"]), np.uint8) for item in (one, other))
    if (one["indices"], one["size"], len(first)) != (other["indices"], other["size"], len(second)):
        return None
    return _difference(first, second)


def difference_from(beton: Beton, fingerprint: dict[str, Any]) -> Difference | None:
    """Compare an open shard's images with the fingerprint that its record states; None if that is of another form."""
    found = read_thumbnails(beton, fingerprint["indices"])
    stated = np.frombuffer(base64.b64decode(fingerprint["thumbnails"]), np.uint8)
    if list(found.shape[2:4]) != fingerprint["size"] or found.size != stated.size:
        return None
    return _difference(found.reshape(-1), stated)


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Difference:
    levels = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return Difference(largest=int(levels.max()), mean=float(levels.mean()))
