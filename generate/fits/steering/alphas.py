"""The six transforms, the law of their strengths α, and the units in which people say them; no torch here.

A sample's strengths are one row of eight numbers, one per walk (colour has three), in the "graph" scale of the released
code: the latent moves by ``row @ walks``. ``UNITS`` leads back to pixels, degrees and factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep import seeding
from genrep.seeding import derive

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
    """How the strength of one walk is said: ``value = gain * α``, or ``exp α`` for a factor."""

    name: str
    largest: float  # α of the strongest transform that walks are learned with; the weakest is its negative
    gain: float = 1.0
    factor: bool = False

    def say(self, alpha: float) -> float:
        """The value that a person reads."""
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
    """From uniforms to -1, ... 0, ... 1 with ``steps`` steps on each side, all equally likely."""
    return (np.floor(u * (2 * steps + 1)) - steps) / steps
