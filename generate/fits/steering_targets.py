"""Inputs and targets of steering: anchors, the strengths α of the transforms, and the transformed images.

A sample's strengths are one row of eight numbers, one per walk (colour has three), in the "graph" scale of the released
code: the latent moves by ``row @ walks``. ``UNITS`` leads back to pixels, degrees and factors.

``warp`` applies colour, then a turn in depth, then in the plane, then zoom and shift. Geometry is in pixels about the image's
centre, x to the right and y down, pixel (i, j) being the square whose middle is at (j + .5 - W / 2, i + .5 - H / 2):
``align_corners=False`` of ``grid_sample``. All of a sample's transforms become one homography from the target's pixels to the
image's, and the image is sampled once, bilinearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep import seeding
from genrep.seeding import derive

from ..generators.calls import synthesize
from ..pixels import framed
from .frozen import FrozenGenerator

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Rows of the walks, in this order; the last three are the columns of the walk "color".
ROWS = ("shift_x", "shift_y", "zoom", "rotate_2d", "rotate_3d", "color_red", "color_green", "color_blue")
SHIFT_X, SHIFT_Y, ZOOM, ROTATE_2D, ROTATE_3D, COLOR = 0, 1, 2, 3, 4, slice(5, 8)

MAX_SHIFT = 100 / 256  # of the image's width or height
MAX_ROTATE_2D, MAX_ROTATE_3D = 30.0, 60.0  # degrees
MAX_ZOOM = 4.0  # field of view, relative to the anchor's: 1 / 4 is the centre enlarged, 4 is all of it made small
MAX_COLOR = 0.5  # added to values in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The unit of a walk's strength: ``value = gain * α``, or ``exp α`` for a factor."""

    name: str
    largest: float  # α of the strongest transform that walks are learned with; the weakest is its negative
    gain: float = 1.0
    factor: bool = False

    def say(self, alpha: float) -> float:
        """The value in the unit that a person reads."""
        return math.exp(alpha) if self.factor else self.gain * alpha


UNITS = {
    "shift_x": Unit(name="% of the width, + is right", largest=1.0, gain=100 * MAX_SHIFT),
    "shift_y": Unit(name="% of the height, + is down", largest=1.0, gain=100 * MAX_SHIFT),
    "zoom": Unit(name="times the field of view", largest=math.log(MAX_ZOOM), factor=True),
    "rotate_2d": Unit(name="degrees, + is counterclockwise", largest=1.0, gain=MAX_ROTATE_2D),
    "rotate_3d": Unit(name="degrees, + turns the right side away", largest=1.0, gain=MAX_ROTATE_3D),
    "color_red": Unit(name="added to [-1, 1]", largest=MAX_COLOR),
    "color_green": Unit(name="added to [-1, 1]", largest=MAX_COLOR),
    "color_blue": Unit(name="added to [-1, 1]", largest=MAX_COLOR),
}


def draw_alphas(seed: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Strengths of the samples with these numbers, each a function of (seed, number). Shape: ``(B,) -> (B, 8)``.

    The law is that of the released code: shifts of -100, -90, ... 100 pixels of 256; rotations of -30, -25, ... 30 degrees
    in the plane and -60, -50, ... 60 about the vertical axis; with even odds a zoom in, field of view U(1/4, 1), or out,
    U(1, 4); colours U(-.5, .5) per channel.
    """
    u = seeding.uniforms(derive("steer-alphas", seed), indices, seeding.ANCHOR, 9)
    zoom = np.where(u[:, 8] < 0.5, 1 / MAX_ZOOM + (1 - 1 / MAX_ZOOM) * u[:, 2], 1 + (MAX_ZOOM - 1) * u[:, 2])
    columns = [
        _grid(u[:, 0], 10),
        _grid(u[:, 1], 10),
        np.log(zoom),
        _grid(u[:, 3], 6),
        _grid(u[:, 4], 6),
        *(MAX_COLOR * (2 * u[:, 5:8].T - 1)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _grid(u: NDArray[np.floating[Any]], steps: int) -> NDArray[np.floating[Any]]:
    """Map uniforms to -1, ... 0, ... 1 with ``steps`` steps on each side, all equally likely."""
    return (np.floor(u * (2 * steps + 1)) - steps) / steps


TOLERANCE = 1e-3  # pixels: what rounding may move a border pixel that the transform leaves in place
HORIZON = 0.05  # of the depth of the image's centre: inside an image that is turned by up to 60 degrees it is above 0.3
DRIFT = 12 / 256 / MAX_ROTATE_3D  # of the width per degree: the released code slides the turned plane by -α / 5 of 256


def anchors(source: FrozenGenerator, seed: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
    """Latents of the generator's own law and, in turn, its classes. Shape: ``(B,) -> (B, d), (B,)``; None without classes."""
    y = source.conditions.y(indices)
    z = torch.from_numpy(source.latent.sample(derive("steer", seed), indices))
    return z.to(source.device), None if y is None else torch.from_numpy(y).to(source.device)


def frames(source: FrozenGenerator, z: Tensor, y: Tensor | None) -> Tensor:
    """Images as the recipe crops and shrinks them, without padding. Shape: ``(B, d) -> (B, 3, h, w)`` float32."""
    return framed(synthesize(source.generator, z, y), source.recipe.crop, source.recipe.resize).float()


def warp(images: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """``T(x, α)`` and the mask of its known pixels.

    A target's pixel is known if every transform of the chain found it inside its own input: what one of them moved out of
    the frame stays lost, whatever comes later (no mask is ever reset). Inside means between the middles of the border
    pixels, where no neighbour of the bilinear sample lies beyond the image. Colours are added without clipping.

    Shapes: images ``(B, 3, H, W)``, alphas ``(B, 8)`` (see draw_alphas) -> target ``(B, 3, H, W)`` float32, mask
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
