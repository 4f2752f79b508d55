"""The positives of a panel, and how far they are from their anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError

from ..generators.base import LatentSpec
from ..views.base import Draw
from .panels import Panel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def positives(
    panel: Panel,
    anchors: NDArray[np.float32],
    latent: LatentSpec,
    *,
    seed: int,
    num_positives: int,
    distances: tuple[float, ...] = (),
) -> NDArray[np.float32]:
    """Latents of the positives: those that a dataset of this view and seed has for pairs 0 to A - 1.

    With ``distances``: points at these distances from the anchor, in the direction of the dataset's first positive.

    Shape: anchors ``(A, d)`` -> ``(A, K, d)``, or ``(A, K, G, d)`` for a view on G groups of W layers.

    Raises:
        RecipeError: a direction is asked for, and the view does not move one of the anchors.
    """
    indices = np.arange(len(anchors), dtype=np.int64)
    count = 1 if distances else num_positives
    drawn = [panel.view.transform(anchors, latent, Draw(seed=seed, indices=indices, k=k)) for k in range(count)]
    if not distances:
        return np.stack(drawn, axis=1)
    step = shifts(anchors, drawn[0][:, None])  # (A, 1, ..., d)
    length = norms(step)
    if not length.all():
        pair = np.flatnonzero(length[:, 0] == 0)[0]
        raise RecipeError(f"--distances: view {panel.title} does not move pair {pair}: there is no direction")
    wide = (1,) * (step.ndim - 2)
    unit = step / length.reshape(-1, 1, *wide)
    far = np.asarray(distances).reshape(1, -1, *wide)
    return (_beside(anchors, step) + unit * far).astype(np.float32)


def shifts(anchors: NDArray[np.float32], moved: NDArray[np.float32]) -> NDArray[np.float64]:
    """``z' - z`` in float64. Shapes: ``(A, d), (A, K, ..., d) -> (A, K, ..., d)``."""
    wide: NDArray[np.float64] = moved.astype(np.float64)
    return wide - _beside(anchors, moved)


def norms(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean lengths, over all groups of W layers together. Shape: ``(A, K, ..., d) -> (A, K)``."""
    found: NDArray[np.float64] = np.sqrt(np.square(step).sum(axis=tuple(range(2, step.ndim))))
    return found


def _beside(anchors: NDArray[np.float32], others: NDArray[Any]) -> NDArray[np.float32]:
    return anchors.reshape(len(anchors), *(1,) * (others.ndim - 2), -1)
