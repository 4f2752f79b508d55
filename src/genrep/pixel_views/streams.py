"""The random numbers of views: Philox, for many views at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import philox4x32


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
