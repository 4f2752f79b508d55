"""Pixel views T_x of float images, differentiable, so that T learns through the crop and the colours.

``genrep.pixel_views`` makes them; this draws the two views of a pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PixelViews
from genrep.pixel_views.dense import differentiable_views
from genrep.pixel_views.parameters import draw


@dataclass(frozen=True, kw_only=True)
class PixelPolicy:
    """A law of pixel views with the size and the seed that they are drawn for."""

    views: PixelViews
    size: int  # pixels, of the output's sides
    seed: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, anchors: Tensor, positives: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """View 0 of every anchor, then view 1 of every positive, normalised.

        Shapes: ``(B, 3, H, W)`` in [0, 1] each, indices ``(B,)`` -> ``(2B, 3, size, size)``.
        """
        images = torch.cat([anchors, positives])
        parameters = draw(
            self.views,
            seed=self.seed,
            epoch=0,
            index=np.concatenate([indices, indices]),
            view=np.repeat([0, 1], len(indices)),
            image_shape=(images.shape[2], images.shape[3]),
            size=self.size,
        )
        return differentiable_views(images, parameters, self.size, self.mean, self.std)
