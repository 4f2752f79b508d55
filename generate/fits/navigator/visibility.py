"""Whether the moves of a learned navigator can be seen: a positive that rounds to its anchor's pixels is no second view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from genrep.seeding import derive

from ...pixels import to_uint8
from ...views.base import View
from ...views.composed import HierarchicalView, MixView
from ...views.learned import NavigatorView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...sources.base import LaunchSource
    from ...views.navigator_network import Walk
    from ..source import Source
    from .scope import Scope

LEAST_CHANGE = 1.0  # level of 255: the step of uint8 pixels
FIT_ANCHORS, BUILD_ANCHORS = 32, 8


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


@torch.no_grad()
def change_of_fit(source: Source, scope: Scope, walk: Walk, seed: int) -> float:
    """``mean_change`` of T on anchors of its own, as a recipe makes pixels of images."""
    anchors = source.anchors(derive("navigator-change", seed), np.arange(FIT_ANCHORS, dtype=np.int64))
    recipe = source.recipe
    images = source.images(anchors), scope.positives(source, anchors, walk.to(source.device)(scope.part(anchors.z)))
    one, other = (to_uint8(each, recipe.uint8, recipe.crop, recipe.resize).cpu().numpy() for each in images)
    return mean_change(one, other)


def change_of_build(source: LaunchSource, num_pairs: int) -> float:
    """``mean_change`` of the first pairs of a build, whose views are learned. torch's random stream is left as it was."""
    count = min(BUILD_ANCHORS, num_pairs, source.batch_size)
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
