"""In which order samples are seen: pure functions of (count, seed, epoch), from streams that NumPy's policy freezes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import derive


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``range(count)``; nearby seeds and epochs share nothing. Shape: ``(count,)``."""
    return stream(derive("order", seed, epoch)).permutation(count).astype(np.int64)


def subset(count: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """A random ``round(fraction · count)`` of ``range(count)``, at least one, ascending.

    For one seed a larger fraction holds every smaller one. Shape: ``(K,)``.
    """
    if fraction >= 1:
        return np.arange(count)
    kept = subset_size(count, fraction)
    return np.sort(stream(derive("subset", seed)).permutation(count)[:kept].astype(np.int64))


def subset_size(count: int, fraction: float) -> int:
    """How many ``subset`` keeps."""
    return count if fraction >= 1 else max(1, round(fraction * count))


def stream(key: int) -> np.random.RandomState:
    """The random numbers of a key, which ``derive`` makes."""
    return np.random.RandomState([key & 0xFFFFFFFF, key >> 32])


def share(count: int, rank: int, world_size: int) -> slice:
    """A rank's part of a step's ``count`` samples: consecutive ones; the parts' sizes differ by at most one."""
    return slice(count * rank // world_size, count * (rank + 1) // world_size)
