"""How much positives differ from their anchors as pictures, and how much anchors of different pairs do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .distances import Series, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]


def difference(one: Image, other: Image) -> float | None:
    """Root mean square over all values, in levels of 255; None for images of two sizes."""
    if one.shape != other.shape:
        return None
    apart = one.astype(np.float32) - other
    return float(np.sqrt(np.mean(apart * apart)))


def series_of(groups: Sequence[Sequence[Image]], names: Sequence[str]) -> list[Series]:
    """A series per positive. ``groups``: of each pair the anchor and its positives, whose ``names`` these are."""
    found = [Series(name=name) for name in names]
    for images in groups:
        for one, image in zip(found, images[1:]):
            if (apart := difference(images[0], image)) is not None:
                one.values.append(rounded(apart))
    unrelated = [difference(one[0], other[0]) for one, other in pairwise(groups)]
    for one in found:
        one.unrelated = [apart for apart in unrelated if apart is not None]
    return found
