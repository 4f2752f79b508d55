"""Whether the moves of a learned navigator can be seen: a positive that rounds to its anchor's pixels is no second view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..views.base import View
from ..views.composed import HierarchicalView, MixView
from ..views.learned import NavigatorView
from .base import LaunchSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_CHANGE = 1.0  # level of 255: the step of uint8 pixels
BUILD_ANCHORS = 8


def mean_change(anchors: NDArray[np.uint8], positives: NDArray[np.uint8]) -> float:
    """Mean of |positive - anchor| over all values, in levels of 255. Shapes: ``(B, H, W, 3)`` each."""
    return float(np.abs(anchors.astype(np.int16) - positives.astype(np.int16)).mean())


def is_learned(view: View) -> bool:
    """Whether it is a navigator, or is made of views of which one is."""
    if isinstance(view, HierarchicalView):
        return any(is_learned(part) for _, part in view.moved)
    if isinstance(view, MixView):
        return any(is_learned(part.view) for part in view.parts)
    return isinstance(view, NavigatorView)


def change_of_build(source: LaunchSource, num_pairs: int) -> float:
    """``mean_change`` of the first pairs of a build, whose views are learned. torch's random stream is left as it was."""
    count = min(BUILD_ANCHORS, num_pairs, source.batch_size)
    import torch

    with torch.random.fork_rng():
        batch = source.launch(np.arange(count, dtype=np.int64)).result()
    return mean_change(np.stack(list(batch.images[0])), np.stack(list(batch.images[1])))


def warning(change: float) -> str | None:
    """What to say of positives that pixels do not tell from their anchors; None where they do."""
    if change >= LEAST_CHANGE:
        return None
    return (
        f"the navigator changes pixels by {change:.2f} of 255 levels on average, less than rounding shows: anchor and positive "
        "are one image. Fit it longer (--samples), with a larger --max-distance or --lr-walk, or with --init torch"
    )
