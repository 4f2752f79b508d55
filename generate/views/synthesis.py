"""Images of a view's latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import View


def synthesize_views(generator: Any, view: View, z_anchor: Tensor, z_positive: Tensor, y: Tensor | None) -> Tensor:
    """Images of positives, differentiable in both latents.

    For a view on groups of W layers (HL): the anchor's w in every layer, truncated as the generator does it, but in the
    layers of group g that of ``z_positive[:, g]``. All latents go through the mapping network in one call.

    Shapes: z_anchor ``(B, d)``, z_positive ``(B, d)`` or ``(B, G, d)``, y as for ``Generator.synthesize`` ->
    ``(B, 3, H, W)``.
    """
    groups = view.w_groups
    if not groups:
        images: Tensor = generator.synthesize(z_positive, y)
        return images
    latents = torch.cat([z_anchor[:, None], z_positive], dim=1)  # (B, 1 + G, d)
    count = latents.shape[1]
    w = generator.mapping(latents.flatten(0, 1), None if y is None else y.repeat_interleave(count, dim=0))
    every = generator.broadcast(w)
    every = every.unflatten(0, (-1, count))  # (B, 1 + G, num_ws, w_dim)
    ws = every[:, 0].clone(memory_format=torch.contiguous_format)
    for group, (first, last) in enumerate(groups, start=1):
        ws[:, first : last + 1] = every[:, group, first : last + 1]
    images = generator.synthesize_w(ws)
    return images
