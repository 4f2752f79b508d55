"""What a walk should do to an image: colour, then turn in depth, then in the plane, then zoom and shift.

Geometry is in pixels about the image's centre, x to the right and y down, pixel (i, j) being the square whose middle is at
(j + .5 - W / 2, i + .5 - H / 2): ``align_corners=False`` of ``grid_sample``. All of a sample's transforms become one
homography from the target's pixels to the image's, and the image is sampled once, bilinearly.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .alphas import COLOR, MAX_ROTATE_2D, MAX_ROTATE_3D, MAX_SHIFT, ROTATE_2D, ROTATE_3D, SHIFT_X, SHIFT_Y, ZOOM

TOLERANCE = 1e-3  # pixels: what rounding may move a border pixel that the transform leaves in place
HORIZON = 0.05  # of the depth of the image's centre: inside an image that is turned by up to 60 degrees it is above 0.3
DRIFT = 12 / 256 / MAX_ROTATE_3D  # of the width per degree: the released code slides the turned plane by -α / 5 of 256


def warp(images: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """``T(x, α)`` and where it is known.

    A target's pixel is known if every transform of the chain found it inside its own input: what one of them moved out of
    the frame stays lost, whatever comes later (no mask is ever reset). Inside means between the middles of the border
    pixels, where no neighbour of the bilinear sample lies beyond the image. Colours are added without clipping.

    Shapes: images ``(B, 3, H, W)``, alphas ``(B, 8)`` (see alphas.py) -> target ``(B, 3, H, W)`` float32, mask
    ``(B, 1, H, W)`` bool.
    """
    height, width = images.shape[2:]
    grid, mask = sampling_grid(alphas, height, width)
    colored = images.float() + alphas[:, COLOR, None, None]
    return F.grid_sample(colored, grid, mode="bilinear", padding_mode="zeros", align_corners=False), mask


def sampling_grid(alphas: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where ``warp`` reads, in ``grid_sample``'s coordinates, and its mask.

    Shape: ``(B, 8) -> (B, H, W, 2), (B, 1, H, W)``.
    """
    points = pixel_middles(height, width, alphas.device)
    limit = points[-1, :2] + TOLERANCE
    mask = torch.ones(len(alphas), len(points), dtype=torch.bool, device=alphas.device)
    chain: Tensor | None = None
    for stage in inverse_stages(alphas, height, width):
        chain = stage if chain is None else stage @ chain
        found = points @ chain.transpose(1, 2)  # (B, H W, 3)
        depth = found[..., 2:]
        places = found[..., :2] / depth.clamp(min=HORIZON)  # finite everywhere: 0 times infinity would pass the mask
        mask &= (places.abs() <= limit).all(dim=2) & (depth[..., 0] > HORIZON)
    grid = torch.stack([places[..., 0] * (2 / width), places[..., 1] * (2 / height)], dim=2)
    return grid.view(-1, height, width, 2), mask.view(-1, 1, height, width)


def inverse_stages(alphas: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Homographies from a transform's output to its input: of zoom and shift, rotation in the plane, rotation in depth.

    The last sees the image as a plane through the origin, turned by φ about the vertical axis, slid by dx and looked at
    from the distance f = √(H² + W²) with the focal length f: (x, y) goes to ``f (x cos φ + dx, y) / (x sin φ + f)``. The
    released code puts the plane one pixel behind the origin, which shrinks images a little at φ = 0: that is the identity here.

    Shape: ``(B, 8) -> 3 x (B, 3, 3)``.
    """
    view = alphas[:, ZOOM].exp()
    zoom_shift = _matrices(
        (view, 0, -view * alphas[:, SHIFT_X] * MAX_SHIFT * width),
        (0, view, -view * alphas[:, SHIFT_Y] * MAX_SHIFT * height),
        (0, 0, 1),
    )
    angle = alphas[:, ROTATE_2D] * math.radians(MAX_ROTATE_2D)
    flat = _matrices((angle.cos(), -angle.sin(), 0), (angle.sin(), angle.cos(), 0), (0, 0, 1))
    degrees, focal = alphas[:, ROTATE_3D] * MAX_ROTATE_3D, math.hypot(height, width)
    sine, cosine, dx = torch.deg2rad(degrees).sin(), torch.deg2rad(degrees).cos(), -degrees * DRIFT * width
    deep = _matrices((1, 0, -dx), (0, cosine - sine * dx / focal, 0), (-sine / focal, 0, cosine))
    return zoom_shift, flat, deep


def _matrices(*rows: tuple[Tensor | float, Tensor | float, Tensor | float]) -> Tensor:
    """A matrix per sample from its entries, numbers or ``(B,)``."""
    like = next(entry for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for row in rows for entry in row]
    return torch.stack(entries, dim=1).view(-1, 3, 3)


def pixel_middles(height: int, width: int, device: torch.device) -> Tensor:
    """Homogeneous coordinates of all pixels, row by row. Shape: ``(H W, 3)``."""
    y = torch.arange(height, device=device) + (0.5 - height / 2)
    x = torch.arange(width, device=device) + (0.5 - width / 2)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows, torch.ones_like(rows)], dim=2).view(-1, 3)


def masked_error(images: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference over the known values; 0 if there are none. Shapes as ``warp``'s results -> ``()``."""
    known = mask.sum() * images.shape[1]
    return ((images.float() - target).square() * mask).sum() / known.clamp(min=1)
