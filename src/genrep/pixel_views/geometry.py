"""Where an image's pixels go: turned, shifted, zoomed; and linear maps along an axis (crops resized, Gaussian blurs).

Two forms of the linear maps. On a CPU, taps: a few pixels and their weights for each output pixel, summed row by row
(``embedding_bag``), which skips the zeros. Elsewhere, and where a gradient or a compiler is in play, a matrix per image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, grid_sample

Floats = NDArray[np.float64]
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def turn_and_zoom(angle: Floats, zoom: Floats, shift: NDArray[np.int64]) -> Floats:
    """From output to input coordinates of ``torchvision``'s ``affine``: turn clockwise and zoom, then shift.

    Shape: degrees ``(N,)``, ``(N,)``, pixels ``(N, 2)`` -> ``(N, 2, 3)``.
    """
    radians = np.deg2rad(angle)
    cosine, sine = np.cos(radians) / zoom, np.sin(radians) / zoom
    linear = np.stack([np.stack([cosine, sine], axis=1), np.stack([-sine, cosine], axis=1)], axis=1)
    return np.concatenate([linear, -linear @ shift[:, :, None]], axis=2)


def sheared(amount: Floats, axis: int, size: int) -> Floats:
    """Columns (axis 0) or rows (axis 1) move by ``amount`` times their distance from the upper left corner.

    Shape: ``(N,) -> (N, 2, 3)``.
    """
    matrices = np.repeat(IDENTITY[None], len(amount), axis=0)
    matrices[:, axis, 1 - axis] = amount
    matrices[:, axis, 2] = amount * size / 2
    return matrices


def warp(x: Tensor, matrices: Tensor) -> Tensor:
    """Read each output pixel where its matrix says, coordinates counted from the centre.

    Shape: ``(N, 3, S, S), (N, 2, 3) -> (N, 3, S, S)``.
    """
    size = x.shape[3]
    along = torch.linspace((1 - size) / 2, (size - 1) / 2, size, device=x.device)
    by_column, by_row, shift = (matrices / (0.5 * size)).unbind(2)  # (N, 2) each: of x and y
    across = along * by_column[:, :, None]  # (N, 2, S)
    down = along * by_row[:, :, None] + shift[:, :, None]
    grid = across[:, :, None, :] + down[:, :, :, None]
    return grid_sample(x, grid.permute(0, 2, 3, 1), mode="nearest", padding_mode="zeros", align_corners=False)


Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Taps:
    """The input pixels that make each output pixel. Shapes: ``(N, out_size, K)``."""

    pixel: NDArray[np.int32]
    weight: NDArray[np.float32]

    def sum_rows(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Weighted sums of rows, times ``scale``.

        Shape: ``(N, C, in_size, D)`` float32 contiguous -> ``(N, C, out_size, D)``. Rows are long enough for vector
        instructions, and every output pixel is summed in the same order in any batch.
        """
        count, channels, in_size, width = x.shape
        out_size, taps = self.pixel.shape[1:]
        first = np.arange(count * channels, dtype=np.int32).reshape(count, channels, 1, 1) * np.int32(in_size)
        rows = torch.from_numpy((first + self.pixel[:, None]).reshape(-1, taps))
        scaled = (self.weight * np.float32(scale))[:, None]
        weight = torch.from_numpy(np.repeat(scaled, channels, axis=1).reshape(-1, taps))
        table = x.view(-1, width)
        return embedding_bag(rows, table, mode="sum", per_sample_weights=weight).view(count, channels, out_size, width)


def resize_taps(start: Ints, length: Ints, flip: Bools, out_size: int) -> Taps:
    """Antialiased bilinear interpolation of ``length`` pixels from ``start``: a triangle as wide as the larger pixel.

    As PyTorch's antialiased interpolation: pixels outside the crop have no weight, and the rest is normalised.
    Shapes: ``(N,)`` each.
    """
    step = (length / out_size).astype(np.float32)[:, None]
    support = np.maximum(step, 1)
    place = np.arange(out_size, dtype=np.float32)
    centre = np.where(flip[:, None], place[::-1], place)
    centre = (centre + np.float32(0.5)) * step  # (N, out_size), in the crop's coordinates
    lowest = np.maximum(np.floor(centre - support + np.float32(0.5)), 0)
    count = math.ceil(2 * float(support.max()))
    pixel = lowest + np.arange(count, dtype=np.float32)[:, None, None]  # (K, N, out_size)
    weight = np.abs(pixel + (np.float32(0.5) - centre))
    weight /= -support
    weight += 1
    np.maximum(weight, 0, out=weight)
    last = length.astype(np.float32)[:, None] - 1
    weight *= pixel <= last
    weight /= weight.sum(axis=0)
    np.minimum(pixel, last, out=pixel)
    pixel += start.astype(np.float32)[:, None]
    return Taps(np.ascontiguousarray(pixel.transpose(1, 2, 0), dtype=np.int32), weight.transpose(1, 2, 0))


def blur_radius(size: int) -> int:
    """Half of SimCLR's kernel, which is a tenth of the side, made odd: 5 at 112 pixels, 0 (no blur) below 20."""
    return size // 20


def blur_taps(sigma: NDArray[np.float64], size: int) -> Taps:
    """A Gaussian cut off at ``blur_radius`` and normalised, with reflection at the borders. Shape: ``(N,)``."""
    radius = blur_radius(size)
    offset = np.arange(-radius, radius + 1)
    pixel = np.abs(np.arange(size)[:, None] + offset)
    pixel = np.where(pixel < size, pixel, 2 * (size - 1) - pixel)
    weight = np.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    shape = (len(sigma), *pixel.shape)
    return Taps(
        np.broadcast_to(pixel.astype(np.int32), shape), np.broadcast_to(weight.astype(np.float32)[:, None], shape)
    )


def resize_matrix(start: Tensor, length: Tensor, flip: Tensor, in_size: int, out_size: int) -> Tensor:
    """The map of ``resize_taps`` as matrices.

    Shape: ``(N,), (N,), (N,)`` of any number type -> ``(N, out_size, in_size)`` float32.
    """
    first, extent, turned = (values.float()[:, None, None] for values in (start, length, flip))
    step = extent / out_size
    place = torch.arange(out_size, device=start.device)[:, None]
    place = place + turned * (out_size - 1 - 2 * place)
    centre = (place + 0.5) * step  # in the crop's coordinates
    pixel = torch.arange(in_size, device=start.device) + 0.5 - first  # (N, 1, in_size)
    weights = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixel > 0) & (pixel < extent))
    return weights / weights.sum(dim=2, keepdim=True)


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """The map of ``blur_taps`` as matrices; the identity where sigma is 0. Shape: ``(N,) -> (N, size, size)``."""
    radius, width = blur_radius(size), sigma.clamp(min=1e-2)[:, None, None]
    pixel = torch.arange(size, device=sigma.device)
    offset = pixel - pixel[:, None]
    mirrored = -pixel - pixel[:, None], 2 * (size - 1) - pixel - pixel[:, None]

    def bell(distance: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / width).square()) * (distance.abs() <= radius)

    weights = bell(offset)
    weights = weights + bell(mirrored[0]) * (pixel > 0) + bell(mirrored[1]) * (pixel < size - 1)
    return weights / weights.sum(dim=2, keepdim=True)


def along_both(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Shape: ``(N, C, H, W), (N, S, H), (N, T, W) -> (N, C, S, T)``."""
    count, channels, rows, _ = x.shape
    x = torch.bmm(x.reshape(count, channels * rows, -1), across.transpose(1, 2))
    return torch.matmul(down[:, None], x.view(count, channels, rows, -1))
