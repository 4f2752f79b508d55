"""Pixel views T_x of float images, differentiable, so that T learns through the crop and the colours.

``genrep.pixel_views.apply`` works in place on stored uint8 images; this makes the same views, to rounding, of the
generator's float images without writing over what the gradient needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PixelViews
from genrep.pixel_views.apply import GRAY_WEIGHTS, resize_weights
from genrep.pixel_views.parameters import OP_CONTRAST, OP_HUE, OP_SATURATION, ViewParameters, draw


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


def differentiable_views(
    images: Tensor, p: ViewParameters, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Crop, resize, flip, colour and normalise images; equals ``apply_views`` on the same images.

    Shape: ``(N, 3, H, W)`` float in [0, 1] -> ``(N, 3, size, size)`` float32, channels last in memory.
    """
    device = images.device
    hue_place = np.argmax(p.order == OP_HUE, axis=1)  # 0..3
    group = np.where(p.jitter, hue_place, 4)
    rows = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[rows], np.arange(5))
    moved = bool(bounds[4])
    if moved:
        p, images = p.take(rows), images.index_select(0, _to(rows, device))
    x = _resized_crops(images, p, size)
    if moved:
        x = torch.cat([_jitter(x[: bounds[4]], p.take(np.arange(bounds[4])), bounds), x[bounds[4] :]])
    if p.grayscale.any():
        chosen = _to(p.grayscale, device)[:, None, None, None]
        x = torch.where(chosen, _gray(x)[:, None], x)
    x = (x - _channels(mean, device)) / _channels(std, device)
    if moved:
        back = np.empty_like(rows)
        back[rows] = np.arange(len(rows))
        x = x.index_select(0, _to(back, device))
    return x.contiguous(memory_format=torch.channels_last)


def _to(values: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return _to(np.asarray(values, dtype=np.float32), device)[:, None, None]


def _resized_crops(images: Tensor, p: ViewParameters, size: int) -> Tensor:
    """Shape: ``(N, 3, H, W) -> (N, 3, size, size)``: two matrix products per image, or nothing where that is the same."""
    count, _, rows, columns = images.shape
    whole = (p.height == size) & (p.width == size) & ~p.flip
    if rows == columns == size and whole.all():
        return images.float()
    device = images.device
    down = resize_weights(p.top, p.height, np.zeros(count, dtype=np.bool_), rows, size, device)  # (N, S, H)
    across = resize_weights(p.left, p.width, p.flip, columns, size, device)  # (N, S, W)
    x = torch.bmm(images.float().reshape(count, 3 * rows, columns), across.transpose(1, 2))
    x = x.view(count, 3, rows, size).permute(0, 2, 1, 3).reshape(count, rows, 3 * size)
    return torch.bmm(down, x).view(count, size, 3, size).permute(0, 2, 1, 3)


def _jitter(x: Tensor, p: ViewParameters, bounds: NDArray[np.int64]) -> Tensor:
    """Brightness, contrast, saturation and hue of each image in its own order. Shape: ``(N, 3, S, S)``.

    Images ``bounds[k]`` to ``bounds[k + 1]`` have their hue shifted at place k.
    """
    others = p.order[p.order != OP_HUE].reshape(len(p), 3)
    factors = np.stack([p.brightness, p.contrast, p.saturation], axis=1)
    turns = _to(p.hue.astype(np.float32), x.device)[:, None, None]
    for place in range(4):
        low, high = int(bounds[place]), int(bounds[place + 1])
        if low < high:
            x = torch.cat([x[:low], _shift_hue(x[low:high], turns[low:high]), x[high:]])
        if place < 3:
            kind = others[:, place]
            x = _blend(x, kind, factors[np.arange(len(p)), kind])
    return x


def _blend(x: Tensor, kind: NDArray[np.int64], factor: NDArray[np.float64]) -> Tensor:
    """``clamp(factor · x + (1 - factor) · target)``; the target is black, the mean gray, or the gray image."""

    def weights(values: NDArray[np.float64]) -> Tensor:
        return _to(values.astype(np.float32), x.device)[:, None, None]

    gray = _gray(x)
    target = gray * weights((1 - factor) * (kind == OP_SATURATION))
    target = target + gray.mean(dim=(1, 2), keepdim=True) * weights((1 - factor) * (kind == OP_CONTRAST))
    return (x * weights(factor)[:, None] + target[:, None]).clamp(0, 1)


def _gray(x: Tensor) -> Tensor:
    """Shape: ``(N, 3, S, S) -> (N, S, S)``."""
    red, green, blue = x.unbind(1)
    return red * GRAY_WEIGHTS[0] + green * GRAY_WEIGHTS[1] + blue * GRAY_WEIGHTS[2]


def _shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the colour wheel at equal value and chroma, as ``pixel_views.apply``. Shapes: ``(N, 3, S, S), (N, 1, 1)``."""
    red, green, blue = x.unbind(1)
    value = x.amax(dim=1)
    chroma = value - x.amin(dim=1)
    is_red = value == red
    is_green = (value == green) & ~is_red
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    offset = torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))
    hue = difference / torch.where(chroma == 0, 1, chroma) + offset + turns * 6
    channels = []
    for n in (5, 3, 1):
        k = hue + n
        k = k - (k.detach() / 6).floor() * 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)
