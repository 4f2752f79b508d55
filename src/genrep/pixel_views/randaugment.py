"""RandAugment's operations on 8-bit images, held as floats of the levels 0 … 255; numbers are torchvision's.

Source: Cubuk et al. 2020, table of operations in section 3; strengths and roundings of torchvision's ``RandAugment``.
Every function maps ``(N, 3, S, S)`` to the same shape and takes numbers of the shape ``(N, 1, 1, 1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .colour import gray

# In torchvision's order.
(
    IDENTITY,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X,
    TRANSLATE_Y,
    ROTATE,
    BRIGHTNESS,
    COLOUR,
    CONTRAST,
    SHARPNESS,
    POSTERIZE,
    SOLARIZE,
    AUTOCONTRAST,
    EQUALIZE,
) = range(14)
MAGNITUDES = 30  # a magnitude is this many steps from nothing to the strongest
STRONGEST = {SHEAR_X: 0.3, SHEAR_Y: 0.3, TRANSLATE_X: 150 / 331, TRANSLATE_Y: 150 / 331, ROTATE: 30.0} | dict.fromkeys(
    (BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS), 0.9
)  # tangent; of the side; degrees; and what is added to a factor of 1


def blend(x: Tensor, factor: Tensor, of_gray: Tensor, of_mean: Tensor) -> Tensor:
    """Brightness, colour or contrast: times a factor, plus so much of the gray image, or of its mean."""
    levels = gray(x).floor_()
    target = levels * of_gray + levels.mean(dim=(1, 2, 3), keepdim=True) * of_mean
    return (x * factor + target).clamp_(0, 255).floor_()


def sharpen(x: Tensor, rest: Tensor) -> Tensor:
    """Mixed with so much of itself softened (a centre of 5 and eight ones, over 13); the border stays."""
    size = x.shape[3]
    if size <= 2:
        return x
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    inside = x[:, :, 1:-1, 1:-1]
    soft = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inside).div_(13).round_()
    return (x + pad((soft - inside) * rest, (1, 1, 1, 1))).clamp_(0, 255).floor_()


def posterize(x: Tensor, step: Tensor) -> Tensor:
    """Round down to multiples of a power of two."""
    return (x / step).floor_() * step


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above the threshold."""
    return torch.where(x >= threshold, 255 - x, x)


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel to 0 … 255."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    span = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return ((x - torch.where(flat, 0.0, low)) / span).clamp_(0, 255).floor_()


def equalize(x: Tensor) -> Tensor:
    """Make each channel's histogram flat, by Pillow's rule."""
    count, channels, size, _ = x.shape
    level = x.reshape(count, channels, size * size).long()
    histogram = torch.zeros(count, channels, 256, dtype=torch.int32, device=x.device)
    histogram.scatter_add_(2, level, torch.ones_like(level, dtype=torch.int32))
    highest = histogram.gather(2, level.amax(dim=2, keepdim=True))
    step = (size * size - highest) // 255
    below = histogram.cumsum(dim=2) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return table.float().gather(2, level).view_as(x)
