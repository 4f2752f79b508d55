"""Colours of images in [0, 1], as torchvision changes those of float images.

Functions with a trailing underscore work in place; ``planes`` is memory that they may use. The others are
differentiable, and hold no data-dependent branch.
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


def solarized(x: Tensor) -> Tensor:
    """``solarize`` with Pillow's threshold, 128 of 255. Shape: any."""
    return torch.where(x >= 128 / 255, 1 - x, x)


def brightness_(x: Tensor, factor: Tensor, planes: Tensor) -> None:
    """``adjust_brightness``. Shape: ``(N, 3, S, S), (N, 1, 1, 1)``."""
    x.mul_(factor).clamp_(max=1)


def contrast_(x: Tensor, factor: Tensor, planes: Tensor) -> None:
    """``adjust_contrast``: away from the mean gray. Shape: ``(N, 3, S, S), (N, 1, 1, 1)``."""
    red, green, blue = x.mean(dim=(2, 3)).split(1, dim=1)
    mean = red * GRAY_WEIGHTS[0] + green * GRAY_WEIGHTS[1] + blue * GRAY_WEIGHTS[2]
    x.mul_(factor).add_(mean[:, :, None, None] * (1 - factor)).clamp_(0, 1)


def saturation_(x: Tensor, factor: Tensor, planes: Tensor) -> None:
    """``adjust_saturation``: away from each pixel's gray. Shape: ``(N, 3, S, S), (N, 1, 1, 1), (5, N, 1, S, S)``."""
    red, green, blue = x.split(1, dim=1)
    target = torch.mul(red, GRAY_WEIGHTS[0], out=planes[0])
    target.add_(green, alpha=GRAY_WEIGHTS[1]).add_(blue, alpha=GRAY_WEIGHTS[2]).mul_(1 - factor)
    x.mul_(factor).add_(target).clamp_(0, 1)


def hue_(x: Tensor, sixths: Tensor, planes: Tensor) -> None:
    """``shifted_hue`` in place. Shape: ``(N, 3, S, S), (N, 1, 1, 1), (5, N, 1, S, S)``; the planes are overwritten."""
    red, green, blue = x.split(1, dim=1)
    value, lowest, chroma, hue, other = planes
    torch.maximum(torch.maximum(red, green, out=value), blue, out=value)
    torch.minimum(torch.minimum(red, green, out=lowest), blue, out=lowest)
    torch.sub(value, lowest, out=chroma).clamp_(min=NO_CHROMA)
    torch.add(green, blue, out=hue).sub_(red).sub_(lowest).div_(chroma).add_(1)
    hue.copysign_(torch.sub(green, blue, out=other)).add_(sixths)
    hue.sub_(torch.div(hue, 6, out=other).floor_(), alpha=6)
    above, below = value.add_(chroma), lowest.sub_(chroma)
    torch.addcmul(below, chroma, torch.sub(hue, 3, out=other).abs_().clamp_(1, 2), out=red)
    torch.addcmul(above, chroma, torch.sub(hue, 2, out=other).abs_().clamp_(1, 2), value=-1, out=green)
    torch.addcmul(above, chroma, hue.sub_(4).abs_().clamp_(1, 2), value=-1, out=blue)


def shifted_hue(x: Tensor, sixths: Tensor) -> Tensor:
    """``adjust_hue``: turn the colour wheel, at equal value and chroma, by sixths of a turn.

    Shape: ``(N, 3, S, S), (N, 1, 1, 1) -> (N, 3, S, S)``.

    The hexagon of HSV without its six cases. With value v, lowest l, chroma c = v - l, the hue in sixths of a turn from
    red is ``1 + (g + b - r - l) / c``, with the sign of ``g - b``. A channel that is full at the hue s is
    ``l + c · clamp(2 - d, 0, 1)``, d the distance of the hue from s around the wheel; for hues in [0, 6), that is
    ``v + c - c · clamp(|h - s|, 1, 2)`` for green (s = 2) and blue (s = 4), and ``l - c + c · clamp(|h - 3|, 1, 2)`` for
    red.
    """
    red, green, blue = x.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = (value - lowest).clamp(min=NO_CHROMA)
    hue = torch.copysign(1 + (green + blue - red - lowest) / chroma, green - blue) + sixths
    hue = hue - (hue / 6).floor() * 6
    above, below = value + chroma, lowest - chroma
    return torch.cat(
        [
            below + chroma * (hue - 3).abs().clamp(1, 2),
            above - chroma * (hue - 2).abs().clamp(1, 2),
            above - chroma * (hue - 4).abs().clamp(1, 2),
        ],
        dim=1,
    )
