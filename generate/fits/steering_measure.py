"""What +α does to generated images: where their content lies, how large it is, how it is turned, what colour it has.

Content is what differs from the border of the anchor's image: the weight of a pixel is the mean over channels of
|x - b|, b the median colour of the anchor's outermost pixels. Effects are such that an image that does exactly what it should
has the effect α:

- shift: by how much the weights' centre of mass moves;
- zoom: by registration, the zoom of the anchor's weights that the moved image's are nearest to in the least squares sense,
  geometric mean over images: above 1 is smaller content, or less of it;
- zoom_extent: the anchor's √(variance of the weights) over the moved image's, geometric mean: smaller content only;
- rotate_2d: the turn of the axes of inertia, ½ arg Σ q' q̄ over images with q = var x - var y + 2i cov: round content
  counts little;
- rotate_3d: by how much the left side comes to stand taller than the right, the fall of E[x y²] / (σx σy²); it has no unit;
- colour: the change of the channel's mean.

Beside each effect stands that of the targets T(G(z), α), measured in the same way: far from 0 it falls short of α too, where
content leaves the frame.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.seeding import derive

from .frozen import FrozenGenerator
from .steering_targets import COLOR, MAX_SHIFT, ROWS, UNITS, ZOOM, Unit, anchors, frames, pixel_middles, sampling_grid

POINTS = 9  # strengths per curve, evenly from the weakest to the strongest
BATCH = 32
LARGEST = 64  # pixels: weights of larger images are averaged down to this
CANDIDATES = 33  # zooms of a registration, evenly in the logarithm over the whole range
EPSILON = 1e-12
MEASURES = {"zoom": ("zoom", "zoom_extent")}  # curves of a walk, where it is not the one of its own name


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Effects of one walk (of the three of colour together where images are gray) over its strengths."""

    name: str
    unit: str  # unit of the alphas, and of all effects except rotate_3d's
    alphas: tuple[float, ...]
    effects: tuple[float, ...]  # of the walk
    targets: tuple[float, ...]  # of the transform that it was learned from

    @property
    def rises(self) -> bool:
        """Whether every step of α adds to the effect."""
        return all(after > before for before, after in zip(self.effects, self.effects[1:]))

    def to_json(self) -> dict[str, Any]:
        """For effects.json."""
        numbers = {
            name: [round(value, 6) for value in getattr(self, name)] for name in ("alphas", "effects", "targets")
        }
        return {"name": self.name, "unit": self.unit, "rises": self.rises, **numbers}


@torch.no_grad()
def measure_walks(
    source: FrozenGenerator, walks: Tensor, *, images: int, seed: int, points: int = POINTS, batch: int = BATCH
) -> list[Curve]:
    """Measure each walk alone on the same anchors. Shape: walks ``(8, d)``. Only sums are kept between batches."""
    seed, walks = derive("steer-measure", seed), walks.to(source.device)
    rows = directions(is_gray(source, seed))
    names = [(walk, name) for walk in rows for name in MEASURES.get(walk, (walk,))]
    steps = {walk: np.linspace(-_unit(walk).largest, _unit(walk).largest, points).tolist() for walk in rows}
    sums = torch.zeros(2, len(names), points, dtype=torch.complex128, device=source.device)
    # Batches outermost: an anchor's image and its moments are made once, for all walks and strengths.
    for start in range(0, images, batch):
        z, y = anchors(source, seed, np.arange(start, min(start + batch, images), dtype=np.int64))
        first = frames(source, z, y)
        border = _border(first)
        before = describe(content_weights(first, border), first.mean(dim=(2, 3)))
        for walk in rows:
            for j, step in enumerate(steps[walk]):
                # One walk at one strength: the generated and the wanted images get the same measurements.
                alphas = torch.zeros(len(z), len(ROWS), device=source.device)
                alphas[:, rows[walk]] = step
                moved = frames(source, z + alphas @ walks, y)
                found = describe(content_weights(moved, border), moved.mean(dim=(2, 3)))
                wanted = _wanted(before, alphas)
                for i, (of, name) in enumerate(names):  # the one or two curves of this walk
                    if of == walk:
                        sums[0, i, j] += _contributions(name, before, found).sum()
                        sums[1, i, j] += _contributions(name, before, wanted).sum()
    effects, targets = sums.cpu().tolist()
    return [
        Curve(
            name=name,
            unit=_unit(walk).name,
            alphas=tuple(_unit(walk).say(step) for step in steps[walk]),
            effects=tuple(_effect(name, value, images) for value in effects[i]),
            targets=tuple(_effect(name, value, images) for value in targets[i]),
        )
        for i, (walk, name) in enumerate(names)
    ]


def directions(gray: bool) -> dict[str, slice]:
    """The walks that are shown and measured, as a name and rows; the colours are one where channels cannot differ."""
    single = {name: slice(i, i + 1) for i, name in enumerate(ROWS)}
    if not gray:
        return single
    return {**{name: rows for name, rows in single.items() if rows.start < COLOR.start}, "color": COLOR}


@torch.no_grad()
def is_gray(source: FrozenGenerator, seed: int) -> bool:
    """Whether the three channels of the generator's images are equal."""
    images = frames(source, *anchors(source, seed, np.arange(4, dtype=np.int64)))
    return bool((images == images[:, :1]).all())


@dataclass(frozen=True, kw_only=True)
class Content:
    """Weights of a batch of images, their moments, each ``(B,)`` float64, and mean colours."""

    weights: Tensor  # (B, H, W)
    x: Tensor  # in widths
    y: Tensor  # in heights
    var_x: Tensor
    var_y: Tensor
    cov: Tensor
    skew: Tensor  # E[x y²] / (σx σy²)
    color: Tensor  # (B, 3)


def describe(weights: Tensor, color: Tensor) -> Content:
    """Moments of weights ``(B, H, W)``, lengths in pixels; a weightless image counts as an even one."""
    height, width = weights.shape[1:]
    places = pixel_middles(height, width, weights.device).double()
    mass = weights.flatten(1).double() + EPSILON
    mass = mass / mass.sum(dim=1, keepdim=True)
    x, y = mass @ places[:, 0], mass @ places[:, 1]
    dx, dy = places[:, 0] - x[:, None], places[:, 1] - y[:, None]
    var_x, var_y = ((mass * d.square()).sum(dim=1) + EPSILON for d in (dx, dy))
    skew = (mass * dx * dy.square()).sum(dim=1) / (var_x.sqrt() * var_y)
    cov = (mass * dx * dy).sum(dim=1)
    return Content(
        weights=weights, x=x / width, y=y / height, var_x=var_x, var_y=var_y, cov=cov, skew=skew, color=color.double()
    )


def _border(images: Tensor) -> Tensor:
    """Median of the outermost pixels, for content may touch the border. Shape: ``(B, C, H, W) -> (B, C, 1, 1)``."""
    edges = [images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]]
    return torch.cat(edges, dim=2).median(dim=2).values[:, :, None, None]


def content_weights(images: Tensor, border: Tensor) -> Tensor:
    """How far pixels are from the border's colour. Shape: ``(B, C, H, W), (B, C, 1, 1) -> (B, h, w)``, h and w up to 64."""
    weights = (images - border).abs().mean(dim=1, keepdim=True)
    shrink = max(*weights.shape[2:], LARGEST) / LARGEST
    height, width = (max(round(side / shrink), 1) for side in weights.shape[2:])
    return F.adaptive_avg_pool2d(weights, (height, width))[:, 0]


def _wanted(before: Content, alphas: Tensor) -> Content:
    """Content of T(G(z), α); beyond the frame there is none."""
    return describe(_warp_weights(before.weights, alphas), before.color + alphas[:, COLOR])


def _warp_weights(weights: Tensor, alphas: Tensor) -> Tensor:
    grid, _ = sampling_grid(alphas, *weights.shape[1:])
    return F.grid_sample(weights[:, None], grid, align_corners=False)[:, 0]


def nearest_zoom(before: Tensor, after: Tensor) -> Tensor:
    """Registration: α of the zoom of ``before`` nearest to ``after``, between candidates by a parabola.

    Shape: weights ``(B, H, W)`` twice -> ``(B,)``; 0 if either image is empty of contrast.
    """
    steps = torch.linspace(-UNITS["zoom"].largest, UNITS["zoom"].largest, CANDIDATES, device=before.device)
    alphas = torch.zeros(CANDIDATES, len(ROWS), device=before.device)
    alphas[:, ZOOM] = steps
    grid, _ = sampling_grid(alphas, *before.shape[1:])
    images = before[None].expand(CANDIDATES, -1, -1, -1)  # the B images as channels
    zoomed = F.grid_sample(images, grid, align_corners=False)
    errors = (zoomed - after).double().square().mean(dim=(2, 3)).T  # (B, CANDIDATES)
    best = errors.argmin(dim=1).clamp(1, CANDIDATES - 2)[:, None]
    low, middle, high = (errors.gather(1, best + i)[:, 0] for i in (-1, 0, 1))
    bend = low - 2 * middle + high
    fits = (bend > EPSILON) & (middle > EPSILON)  # a parabola through an exact match would leave it
    offset = torch.where(fits, (low - high) / (2 * bend.clamp(min=EPSILON)), 0.0).clamp(-1, 1)
    flat = errors.amax(dim=1) - errors.amin(dim=1) <= EPSILON
    return torch.where(flat, 0.0, steps[best[:, 0]] + offset * (steps[1] - steps[0]))


def _contributions(name: str, before: Content, after: Content) -> Tensor:
    """What each image adds to the effect, in units of α. Shape: ``(B,)``, complex for rotate_2d."""
    if name == "shift_x":
        return (after.x - before.x) / MAX_SHIFT
    if name == "shift_y":
        return (after.y - before.y) / MAX_SHIFT
    if name == "zoom":
        return nearest_zoom(before.weights, after.weights)
    if name == "zoom_extent":
        return ((before.var_x + before.var_y) / (after.var_x + after.var_y)).log() / 2
    if name == "rotate_2d":  # y is down, and counterclockwise positive
        old, new = (torch.complex(content.var_x - content.var_y, -2 * content.cov) for content in (before, after))
        return new * old.conj()
    if name == "rotate_3d":
        return before.skew - after.skew
    change = after.color - before.color
    return change.mean(dim=1) if name == "color" else change[:, ROWS.index(name) - COLOR.start]


def _effect(name: str, total: complex, images: int) -> float:
    """Turn a sum of contributions into the effect that a person reads."""
    if name == "rotate_2d":
        return math.degrees(cmath.phase(total)) / 2 if total else 0.0
    mean = total.real / images
    return mean if name == "rotate_3d" else _unit(name).say(mean)


def _unit(name: str) -> Unit:
    return UNITS[{"color": "color_red", "zoom_extent": "zoom"}.get(name, name)]
