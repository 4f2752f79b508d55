"""Which pairs of a dataset are looked at: as many as asked for, spread evenly over all of it, or over what is within reach."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from genrep.seeding import derive

from .. import layout
from ..manifest import Manifest, Shard


def spread(total: int, count: int) -> list[int]:
    """Up to ``count`` of the numbers below ``total``, ascending: one of each of as many equal parts, the same every time.

    Which one of its part is pseudo-random: at a fixed distance, samples of classes that take turns would be of one class.
    """
    count = min(total, count)
    edges = [i * total // count for i in range(count + 1)]
    return [low + derive("browse", i, total) % (high - low) for i, (low, high) in enumerate(pairwise(edges))]


def evenly(shards: Sequence[Shard], count: int) -> list[Shard]:
    """Up to ``count`` shards, the first and the last among them, at equal distances."""
    if count >= len(shards):
        return list(shards)
    last = len(shards) - 1
    return [shards[round(i * last / max(count - 1, 1))] for i in range(count)]


def positions(shards: Sequence[Shard], count: int) -> dict[int, list[int]]:
    """Pairs spread over the shards: positions in the file, by the shard's place in ``shards``."""
    ends: list[int] = []
    for shard in shards:
        ends.append((ends[-1] if ends else 0) + shard.count)
    found: dict[int, list[int]] = {}
    for place in spread(ends[-1], count):
        k = bisect_right(ends, place)
        found.setdefault(k, []).append(place - (ends[k] - shards[k].count))
    return found


def affordable(manifest: Manifest, count: int, images: int, budget: int) -> int:
    """How many pairs, at most ``count`` and one at least, can be read within ``budget`` bytes, as far as the manifest tells.

    ``images``: stored images of a pair that are looked at.
    """
    fields = [*manifest.image_fields[:images], *layout.in_beton(manifest.latent_fields)]
    raw = sum(layout.size_limits(field)[1] for field in fields)
    return max(min(count, budget // min(raw, -(-manifest.num_bytes // manifest.num_pairs))), 1)


def latent_bytes(manifest: Manifest) -> int:
    """Of a pair."""
    return sum(4 * math.prod(field["shape"]) for field in manifest.latent_fields)
