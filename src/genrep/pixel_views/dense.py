"""Pixel views without data-dependent branches or writes, so that a compiler can fuse them and gradients exist.

Every image goes through every operation of its law. Where it takes no part, the operation's numbers change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..devices import to_device
from . import PixelViews, table
from . import randaugment as ra
from .colour import gray, shifted_hue, solarized
from .geometry import along_both, blur_matrix, blur_radius, resize_matrix, warp
from .parameters import OP_HUE, ViewParameters


def differentiable_views(
    images: Tensor, parameters: ViewParameters, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """``apply_views`` of float images, with a gradient; RandAugment, on 8-bit images, has none.

    Hues, of which the gradient remembers most, are shifted where they shall be only.

    Shape: ``(N, 3, H, W)`` float in [0, 1] -> ``(N, 3, size, size)`` float32, channels last in memory.
    """
    group = np.where(parameters.jitter, np.argmax(parameters.order == OP_HUE, axis=1), 4)
    rows = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[rows], np.arange(5)).tolist()
    numbers = table.number_table(parameters, size, mean, std)[rows]
    x = images.float().index_select(0, to_device(rows, images.device))
    hues = [slice(low, high) for low, high in pairwise(edges)]
    x = _changed(x, to_device(numbers, images.device), parameters.views, size, hues)
    x = x.index_select(0, to_device(np.argsort(rows), images.device))
    return x.contiguous(memory_format=torch.channels_last)


def compiled_views(
    images: Tensor, parameters: ViewParameters, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """``apply_views`` fused by ``torch.compile``; shapes as there."""
    numbers = to_device(table.number_table(parameters, size, mean, std), images.device)
    return _compiler()(images, numbers, parameters.views, size)


@cache
def _compiler() -> Callable[[Tensor, Tensor, PixelViews, int], Tensor]:
    return torch.compile(of_stored)


def of_stored(images: Tensor, numbers: Tensor, views: PixelViews, size: int) -> Tensor:
    """Shape: ``(N, H, W, 3)`` uint8, ``(N, columns)`` of ``table.number_table`` -> ``(N, 3, size, size)``."""
    return _changed(images.permute(0, 3, 1, 2).float() / 255, numbers, views, size, [slice(None)] * 4)


def _changed(x: Tensor, numbers: Tensor, views: PixelViews, size: int, hues: Sequence[slice]) -> Tensor:
    """``hues``: which images' hue each place of the jitter may shift."""
    top, left, height, width, flip, grayscale, sigma = numbers[:, : table.SIGMA + 1].unbind(1)
    if views.random_crop or views.flip or (x.shape[2], x.shape[3]) != (size, size):
        down = resize_matrix(top, height, torch.zeros_like(flip), x.shape[2], size)
        x = along_both(x, down, resize_matrix(left, width, flip, x.shape[3], size))
    if views.affine:
        x = warp(x, numbers[:, table.AFFINE : table.AFFINE + 6].reshape(-1, 2, 3))
    for place in range(4 if views.jitter else 0):
        x = _jitter(x, numbers[:, table.PLACES + table.PER_PLACE * place :], hues[place])
    if views.blur and blur_radius(size):
        matrix = blur_matrix(sigma, size)
        x = along_both(x, matrix, matrix)
    if views.rand_operations:
        x = (x * 255).round()
        for k in range(views.rand_operations):
            x = _rand(x, numbers[:, table.RAND + table.PER_OPERATION * k :])
        x = x / 255
    if views.grayscale:
        x = torch.where(grayscale[:, None, None, None] > 0, gray(x), x)
    if views.solarize:
        x = torch.where(numbers[:, table.SOLARIZE, None, None, None] > 0, solarized(x), x)
    shift, scale = (numbers[:, first : first + 3, None, None] for first in (table.MEAN, table.STD))
    return ((x - shift) / scale).contiguous(memory_format=torch.channels_last)


def _jitter(x: Tensor, numbers: Tensor, hues: slice) -> Tensor:
    """One place of the jitter: three operations are ``clamp(factor · x + (1 - factor) · target)``, then the hue's."""
    factor, of_gray, of_mean, sixths = (numbers[:, k, None, None, None] for k in range(table.PER_PLACE))
    target = gray(x)
    target = target * of_gray + target.mean(dim=(1, 2, 3), keepdim=True) * of_mean
    x = (x * factor + target).clamp(0, 1)
    if hues == slice(None):
        return shifted_hue(x, sixths)
    return torch.cat([x[: hues.start], shifted_hue(x[hues], sixths[hues]), x[hues.stop :]])


def _rand(x: Tensor, numbers: Tensor) -> Tensor:
    """One operation of RandAugment on levels 0 … 255."""
    number = numbers[:, :, None, None, None].unbind(1)
    x = warp(x, numbers[:, :6].reshape(-1, 2, 3))
    x = ra.blend(x, number[table.RAND_FACTOR], number[table.RAND_OF_GRAY], number[table.RAND_OF_MEAN])
    x = ra.sharpen(x, number[table.REST])
    x = ra.solarize(ra.posterize(x, number[table.STEP]), number[table.THRESHOLD])
    x = torch.where(number[table.AUTOCONTRAST] > 0, ra.autocontrast(x), x)
    return torch.where(number[table.EQUALIZE] > 0, ra.equalize(x), x)
