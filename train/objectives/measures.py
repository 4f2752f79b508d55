"""Live signs of what embeddings do: collapse, alignment, uniformity."""

from __future__ import annotations

import torch
from torch import Tensor

from genrep.infonce import relative_std

from .base import full_precision
from .pairs import between_views, within_samples


@torch.no_grad()
def measures(embeddings: Tensor) -> dict[str, Tensor]:
    """Numbers to log, of this rank's samples; every now and then, since uniformity compares all of them.

    ``embedding_std``: 1 for rows spread evenly over the sphere, 0 for a collapse (infonce.relative_std), NaN for one
    sample. ``alignment``: mean squared distance of a sample's views. ``uniformity``: the logarithm of the mean of
    exp(-2 d²) over pairs of samples in view 0, 0 for a collapse (Wang & Isola 2020, with α = 2, t = 2).

    Args:
        embeddings: Shape ``(V, B, D)``, rows of unit length; ``Output.embeddings``.
    """
    views, size, _ = embeddings.shape
    found = {"embedding_std": relative_std(embeddings[0]) if size > 1 else embeddings.new_tensor(float("nan"))}
    with full_precision(embeddings):
        if views > 1:
            found["alignment"] = 2 - 2 * between_views(within_samples(embeddings, embeddings)).mean()
        if size > 1:
            close = ((embeddings[0] @ embeddings[0].T - 1) * 4).exp()  # exp(-2 d²), d² = 2 - 2 cos
            found["uniformity"] = ((close.sum() - close.diagonal().sum()) / (size * (size - 1))).log()
    return found
