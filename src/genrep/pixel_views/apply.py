"""Applying pixel views to a batch: every step is one tensor operation over all images, or over a slice of them.

Given its parameters, a view equals what ``torchvision.transforms.v2.functional`` makes of the float image (crop,
antialiased bilinear resize, the jitter's operations in their order, grayscale), up to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .parameters import OP_CONTRAST, OP_HUE, OP_SATURATION, ViewParameters

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision


def apply_views(
    images: Tensor, parameters: ViewParameters, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Crop, resize, flip, colour and normalise images.

    Shape: ``(N, H, W, 3)`` uint8 -> ``(N, 3, size, size)`` float32, channels last in memory.

    The images are worked on in an order in which those whose hue is shifted first, second, … are neighbours, so that each
    colour operation is done on slices and nothing is computed twice.
    """
    device = images.device
    jittered = parameters.jitter & ~_is_identity(parameters)
    hue_place = np.argmax(parameters.order == OP_HUE, axis=1)  # 0..3
    group = np.where(jittered, hue_place, 4)
    rows = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[rows], np.arange(5))
    ordered = parameters.take(rows)
    x = resized_crops(images[_to(rows, device)], ordered, size)
    if bounds[4]:
        _jitter(x[: bounds[4]], ordered.take(np.arange(bounds[4])), bounds)
    gray = np.flatnonzero(ordered.grayscale)
    if len(gray):
        chosen = _to(gray, device)
        x[chosen] = _gray(x[chosen])[:, None].expand(-1, 3, -1, -1)
    x = x.sub_(_channels(mean, device)).div_(_channels(std, device))
    back = np.empty_like(rows)
    back[rows] = np.arange(len(rows))
    return x.contiguous(memory_format=torch.channels_last)[_to(back, device)]


def _is_identity(p: ViewParameters) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (p.brightness == 1) & (p.contrast == 1) & (p.saturation == 1) & (p.hue == 0)
    return same


def _to(values: NDArray[np.generic], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.to(device, non_blocking=True)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None, None]


def resized_crops(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Crop, resize with antialiased bilinear interpolation, and flip, as two matrix products per image.

    Shape: ``(N, H, W, 3)`` uint8 -> ``(N, 3, size, size)`` float32 in [0, 1], contiguous.
    """
    count, rows, columns, _ = images.shape
    device = images.device
    no_flip = np.zeros(count, dtype=np.bool_)
    down = resize_weights(parameters.top, parameters.height, no_flip, rows, size, device)  # (N, S, H)
    across = resize_weights(parameters.left, parameters.width, parameters.flip, columns, size, device)  # (N, S, W)
    x = images.reshape(count, rows, columns * 3).float().div_(255)
    x = torch.bmm(down, x)  # (N, S, W * 3)
    x = x.view(count, size, columns, 3).permute(0, 3, 1, 2).reshape(count, 3 * size, columns)
    return torch.bmm(x, across.transpose(1, 2)).view(count, 3, size, size)


def resize_weights(
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    flip: NDArray[np.bool_],
    in_size: int,
    out_size: int,
    device: torch.device,
) -> Tensor:
    """Weights of the input's pixels in each output pixel, along one axis: a triangle as wide as the larger pixel.

    Pixels outside the crop have no weight, and the rest is normalised, as in PyTorch's antialiased interpolation.

    Shape: ``(N,), (N,), (N,) -> (N, out_size, in_size)`` float32.
    """
    first = _to(start, device).float()[:, None, None]
    extent = _to(length, device).float()[:, None, None]
    step = extent / out_size
    place = torch.arange(out_size, device=device)[:, None]
    place = torch.where(_to(flip, device)[:, None, None], out_size - 1 - place, place)
    centre = (place + 0.5) * step  # in the crop's coordinates
    pixel = torch.arange(in_size, device=device) + 0.5 - first  # (N, 1, in_size)
    weights = (pixel - centre).abs_().div_(step.clamp(min=1)).neg_().add_(1).clamp_(min=0)
    weights *= (pixel > 0) & (pixel < extent)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _jitter(x: Tensor, p: ViewParameters, bounds: NDArray[np.int64]) -> None:
    """Brightness, contrast, saturation and hue of each image in its own order, in place.

    Shape: ``(N, 3, S, S)``. Images ``bounds[k]`` to ``bounds[k + 1]`` have their hue shifted at place k.
    """
    others = p.order[p.order != OP_HUE].reshape(len(p), 3)
    factors = np.stack([p.brightness, p.contrast, p.saturation], axis=1)
    turns = _to(p.hue.astype(np.float32), x.device)[:, None, None]
    for place in range(4):
        low, high = int(bounds[place]), int(bounds[place + 1])
        if low < high:
            _shift_hue(x[low:high], turns[low:high])
        if place < 3:
            kind = others[:, place]
            _blend(x, kind, factors[np.arange(len(p)), kind])


def _blend(x: Tensor, kind: NDArray[np.int64], factor: NDArray[np.float64]) -> None:
    """``clamp(factor · x + (1 - factor) · target)`` in place; the target is black, the mean gray, or the gray image.

    torchvision's ``adjust_brightness``, ``adjust_contrast`` and ``adjust_saturation`` are this with their targets.
    """
    rest = 1 - factor
    gray = _gray(x)  # (N, S, S)
    mean = gray.mean(dim=(1, 2), keepdim=True)
    of_gray = _to((rest * (kind == OP_SATURATION)).astype(np.float32), x.device)[:, None, None]
    of_mean = _to((rest * (kind == OP_CONTRAST)).astype(np.float32), x.device)[:, None, None]
    target = gray.mul_(of_gray).add_(mean.mul_(of_mean))
    x.mul_(_to(factor.astype(np.float32), x.device)[:, None, None, None]).add_(target[:, None]).clamp_(0, 1)


def _gray(x: Tensor) -> Tensor:
    """Shape: ``(N, 3, S, S) -> (N, S, S)``."""
    return (x[:, 0] * GRAY_WEIGHTS[0]).add_(x[:, 1], alpha=GRAY_WEIGHTS[1]).add_(x[:, 2], alpha=GRAY_WEIGHTS[2])


def _shift_hue(x: Tensor, turns: Tensor) -> None:
    """Turn the colour wheel in place, at equal value and chroma.

    Shape: ``(N, 3, S, S), (N, 1, 1)``. With hue h in sixths of a turn, value v and chroma c, the channels are
    ``v - c · clamp(min(k, 4 - k), 0, 1)``, k = (n + h) mod 6 for n = 5, 3, 1: HSV to RGB without cases.
    """
    red, green, blue = x.unbind(1)
    value, lowest = x.amax(dim=1), x.amin(dim=1)
    chroma = value - lowest
    is_red = value == red
    is_green = (value == green) & ~is_red
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hue = difference.div_(torch.where(chroma == 0, 1, chroma))
    hue.add_(torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))).add_(turns * 6)
    for channel, n in enumerate((5, 3, 1)):
        k = hue + n
        k.sub_((k / 6).floor_().mul_(6))  # remainder, at a third of remainder_'s time on a CPU
        k = torch.minimum(k, 4 - k).clamp_(0, 1)
        x[:, channel] = value - chroma * k
