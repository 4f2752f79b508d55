"""Colours of images in [0, 1], as torchvision changes those of float images.

Functions with a trailing underscore work in place. The others are differentiable, and hold no data-dependent branch.
"""

from __future__ import annotations

import torch
from torch import Tensor

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision
NO_CHROMA = 1e-12  # below any difference of two values in [0, 1]


def gray(x: Tensor) -> Tensor:
    """Shape: ``(N, 3, S, S) -> (N, 1, S, S)``."""
    red, green, blue = x.split(1, dim=1)
    return (red * GRAY_WEIGHTS[0]).add_(green, alpha=GRAY_WEIGHTS[1]).add_(blue, alpha=GRAY_WEIGHTS[2])


def brightness_(x: Tensor, factor: Tensor) -> None:
    """``adjust_brightness``. Shape: ``(N, 3, S, S), (N, 1, 1, 1)``."""
    x.mul_(factor).clamp_(max=1)


def contrast_(x: Tensor, factor: Tensor) -> None:
    """``adjust_contrast``: away from the mean gray. Shape: ``(N, 3, S, S), (N, 1, 1, 1)``."""
    weights = torch.tensor(GRAY_WEIGHTS, device=x.device)
    mean = (x.mean(dim=(2, 3)) * weights).sum(dim=1)[:, None, None, None]
    x.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation_(x: Tensor, factor: Tensor) -> None:
    """``adjust_saturation``: away from each pixel's gray. Shape: ``(N, 3, S, S), (N, 1, 1, 1)``."""
    target = gray(x).mul_(1 - factor)
    x.mul_(factor).add_(target).clamp_(0, 1)


def hue_(x: Tensor, sixths: Tensor) -> None:
    """``adjust_hue``: turn the colour wheel, at equal value and chroma, by sixths of a turn.

    Shape: ``(N, 3, S, S), (N, 1, 1, 1)``.
    """
    for channel, values in zip(x.split(1, dim=1), turned(x, sixths)):
        channel.copy_(values)


def turned(x: Tensor, sixths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The channels of ``hue_``. Shape: ``(N, 3, S, S), (N, 1, 1, 1) -> (N, 1, S, S)`` each.

    The hexagon of HSV without its six cases. With value v, lowest l, chroma c = v - l, the hue in sixths of a turn from
    red is ``1 + (g + b - r - l) / c``, with the sign of ``g - b``. A channel that is full at the hue s is
    ``l + c · clamp(2 - d, 0, 1)``, d the distance of the hue from s around the wheel; for hues in [0, 6), that is
    ``v + c - c · clamp(|h - s|, 1, 2)`` for green (s = 2) and blue (s = 4), and mirrored for red.
    """
    red, green, blue = x.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = (value - lowest).clamp_(min=NO_CHROMA)
    hue = (green + blue).sub_(red).sub_(lowest).div_(chroma).add_(1)
    hue = torch.copysign(hue, green - blue).add_(sixths)
    hue = hue - (hue / 6).floor_().mul_(6)
    above, below = value + chroma, lowest - chroma
    return (
        torch.addcmul(below, chroma, (hue - 3).abs_().clamp_(1, 2)),
        torch.addcmul(above, chroma, (hue - 2).abs_().clamp_(1, 2), value=-1),
        torch.addcmul(above, chroma, (hue - 4).abs_().clamp_(1, 2), value=-1),
    )
