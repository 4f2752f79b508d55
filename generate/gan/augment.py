"""Adaptive discriminator augmentation for small sets (Karras et al. 2020, "Training GANs with Limited Data").

Every image that the discriminator sees, real or generated, is transformed with probability p per kind of transform; p
follows how far the discriminator tells real training images by sign, so that small sets are not memorised.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TARGET_SIGN = 0.6  # of E[sign(D(real))]
FULL_RANGE_IMAGES = 500_000  # images after which p could have gone from 0 to 1


def adjust_probability(p: float, mean_sign: float, images: int) -> float:
    """Move p by what ``images`` training images allow, towards the target sign."""
    step = math.copysign(images / FULL_RANGE_IMAGES, mean_sign - TARGET_SIGN)
    return min(max(p + step, 0.0), 1.0)


def augment(images: Tensor, p: float) -> Tensor:
    """Flip, shift, rotate, scale, brighten and contrast each image, each kind with probability p.

    Shape: ``(B, C, H, W) -> (B, C, H, W)``. Differentiable once in ``images``; draws from torch's global stream.
    """
    if p <= 0:
        return images
    batch, device = images.shape[0], images.device

    def chosen(value: Tensor, neutral: float) -> Tensor:
        return torch.where(torch.rand(batch, device=device) < p, value, torch.full_like(value, neutral))

    flip = chosen(torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0), 1.0)
    scale = chosen((torch.randn(batch, device=device) * 0.2).exp2(), 1.0)
    angle = chosen((torch.rand(batch, device=device) * 2 - 1) * math.pi / 12, 0.0)
    shift_x, shift_y = (chosen((torch.rand(batch, device=device) * 2 - 1) * 0.125, 0.0) for _ in range(2))
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([torch.stack([cos * flip, -sin, shift_x], 1), torch.stack([sin * flip, cos, shift_y], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    brightness = chosen(torch.randn(batch, device=device) * 0.2, 0.0)
    contrast = chosen((torch.randn(batch, device=device) * 0.5).exp2(), 1.0)
    return images * contrast[:, None, None, None] + brightness[:, None, None, None]
