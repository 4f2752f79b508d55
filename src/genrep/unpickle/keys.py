"""Which values may be a dictionary's key or a set's member."""

from __future__ import annotations

import numpy as np

from .limits import Limits, Malformed, show
from .records import Global

_SMALL = 1 << 60  # below it an integer is its own hash: collisions cannot be made
_DEPTH = 8


def check_key(key: object, limits: Limits) -> None:
    """Raises Malformed for a key that cannot be hashed, or whose hash could be made to take long."""
    if type(key) is str or key is None or isinstance(key, Global):
        return
    if isinstance(key, int) and -_SMALL < key < _SMALL:
        return
    limits.odd_key()
    if not _hashable(key, _DEPTH, limits):
        raise Malformed(f"it has a dictionary with {show(key)} as key")


def _hashable(key: object, depth: int, limits: Limits) -> bool:
    if isinstance(key, tuple | frozenset) and depth:
        limits.operate(len(key))
        return all(_hashable(part, depth - 1, limits) for part in key)
    return key is None or isinstance(key, str | int | float | complex | bytes | np.number | np.bool_ | Global)
