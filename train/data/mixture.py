"""``--mix p``: a fixed part of one set's places, taken by another set's images.

GenRep's code (its Figure 9) tossed a coin at every access, from a stream that workers shared, and took the image of the same
number from the other set: neither an exact part, nor the same from epoch to epoch, nor able to draw from a smaller set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import derive

from .order import stream


def mixture(count: int, others: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of ``range(count)`` are replaced, and by which of ``range(others)``: ``round(fraction · count)`` pairs.

    No image of the other set comes twice before each has come once. For one seed, a larger fraction replaces every place
    that a smaller one does. Both ascend, so that a window of shards (``window``) needs a run of the other set too: who
    replaces whom decides nothing but the index under which pixel views are drawn. Shape: ``(K,)`` each.
    """
    replaced = round(fraction * count)
    random = stream(derive("mix", seed))
    places = random.permutation(count)[:replaced].astype(np.int64)
    rounds = -(-replaced // others)
    drawn = np.concatenate([np.empty(0, dtype=np.int64), *(random.permutation(others) for _ in range(rounds))])
    return np.sort(places), np.sort(drawn[:replaced].astype(np.int64))
