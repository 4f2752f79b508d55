"""Turning, shifting, shearing and zooming images about their centre, with nearest neighbours and black outside."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

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
