"""Counter-based random numbers, so that any draw can be made alone and in any order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import philox4x32

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele et al. 2014): a bijection of 64-bit words, elementwise."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniforms(key: int, index: NDArray[np.int64], counters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), 53 bits each: SplitMix64 from a state that is a hash of the key and the index.

    Args:
        key: 64 bits, e.g. ``derive("pixel-views", seed, epoch)``.
        index: Shape ``(N,)``.
        counters: Shape ``(K,)`` or ``(N, K)``: which numbers of each index's stream.

    Returns:
        Shape ``(N, K)``.
    """
    states = mix(np.uint64(key) ^ mix(index.astype(np.uint64) + GOLDEN))
    words = mix(states[:, None] + (counters.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def view_uniforms(
    key: int, index: NDArray[np.int64], view: NDArray[np.int64], blocks: Sequence[int]
) -> NDArray[np.float64]:
    """Uniforms in (0, 1): of each sample and view those that ``genrep.seeding.uniforms(key, index, stream=view)`` gives.

    Only the blocks asked for are made, and all views at once.

    Args:
        key: 63 bits, e.g. ``derive("pixel-views", seed, epoch)``.
        index: Shape ``(N,)``.
        view: Shape ``(N,)``; 0 to 65535.
        blocks: Which blocks of each stream.

    Returns:
        Shape ``(len(blocks), 4, N)``.
    """
    low, high = (index & 0xFFFFFFFF).astype(np.uint32)[None], (index >> 32).astype(np.uint32)[None]
    block = np.array(blocks, dtype=np.uint32)[:, None]
    words = philox4x32(low, high, view.astype(np.uint32)[None], block, key)
    found = np.empty((len(blocks), 4, len(index)))
    for place, word in enumerate(words):
        np.multiply(word + 0.5, 2.0**-32, out=found[:, place])
    return found
