"""Dead leaves (Matheron 1968; Lee, Mumford and Huang 2001; Baradad et al. 2021): shapes that cover each other.

A latent is the normal numbers of ``leaves`` leaves, the first of which lies on top. Those of a leaf become, by the normal
distribution function, its centre (uniform in the image), its radius r (density ``r^-size_exponent - r_max^-size_exponent``
between ``smallest`` and ``largest``, in units of the image's longer side), its kind and proportion, its direction, and its
colour (uniform in RGB). A pixel has the colour of the first leaf that contains its centre. Behind all leaves lies one that
fills the image, whose colour the latent decides as well.

Images are differentiable in the numbers of the colours. They are piecewise constant in all others, whose gradient is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..base import LatentSpec
from . import options
from .arithmetic import uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTLESS = True
LAW = 1  # raise it when a latent's image changes
OPTIONS = frozenset({"height", "width", "shapes", "leaves", "size_exponent", "smallest", "largest"})
CIRCLE, SQUARE, ORIENTED, RECTANGLE, TRIANGLE = range(5)
# Every shape is inscribed in the circle of its radius. A latent's number chooses among these, all equally likely.
SHAPES: dict[str, tuple[int, ...]] = {
    "circles": (CIRCLE,),
    "squares": (SQUARE,),
    "oriented": (ORIENTED,),
    "mixed": (CIRCLE, SQUARE, ORIENTED, RECTANGLE, TRIANGLE),
}
KNOTS = 2049  # of the quantile function of radii
CANDIDATES = 1 << 16  # pairs of a leaf and a pixel that are looked at together: bounds the memory
TINY = 1e-12


def open_plain(
    *,
    device: str | torch.device = "cpu",
    height: int = 64,
    width: int = 64,
    shapes: str = "mixed",
    leaves: int = 512,
    size_exponent: float = 3.0,
    smallest: float = 0.03,
    largest: float = 1.0,
) -> DeadLeaves:
    """The generator.

    Args:
        device: where the tables lie.
        height: of the images, in pixels.
        width: of the images, in pixels.
        shapes: "circles", "squares", "oriented" (squares, turned) or "mixed" (these, rectangles and triangles).
        leaves: number of leaves before the one that fills the image.
        size_exponent: of the density of radii; 3 makes images that look alike at all scales.
        smallest: radius, in units of the longer side.
        largest: radius, in units of the longer side.

    Raises RecipeError for a value that is none of these.
    """
    options.number("smallest", smallest, 1e-3, 1.0)
    return DeadLeaves(
        options.image_shape(height, width),
        shapes=SHAPES[options.choice("shapes", shapes, tuple(SHAPES))],
        leaves=options.whole("leaves", leaves, 1, 65_536),
        radii=radius_table(
            options.number("size_exponent", size_exponent, 0.0, 16.0),
            smallest,
            options.number("largest", largest, smallest * 1.01, 4.0),
        ),
        device=device,
    )


def radius_table(exponent: float, smallest: float, largest: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distribution function of the radii and the radii that it belongs to. Shape: ``(KNOTS,)`` each.

    As in the paper, the constant ``largest^-exponent`` is taken off, so that the density ends in 0 (not where it is uniform).
    """
    radii = smallest * (largest / smallest) ** np.linspace(0.0, 1.0, KNOTS)
    constant = largest**-exponent if exponent > 0 else 0.0
    if exponent == 1.0:
        below = np.log(radii / smallest)
    else:
        below = (radii ** (1.0 - exponent) - smallest ** (1.0 - exponent)) / (1.0 - exponent)
    below = below - constant * (radii - smallest)
    return (below / below[-1]).astype(np.float32), radii.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Leaves of a batch, the first on top. Lengths in pixels, measured from the image's upper left corner."""

    x: Tensor  # (B, N), centre
    y: Tensor  # (B, N)
    radius: Tensor  # (B, N)
    kind: Tensor  # (B, N) int64
    proportion: Tensor  # (B, N), in [0, 1]
    cosine: Tensor  # (B, N), of the direction
    sine: Tensor  # (B, N)
    colours: Tensor  # (B, N + 1, 3) in [-1, 1], the last one behind all leaves


class DeadLeaves:
    """See the module."""

    num_classes = 0

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        shapes: tuple[int, ...],
        leaves: int,
        radii: tuple[NDArray[np.float32], NDArray[np.float32]],
        device: str | torch.device,
    ) -> None:
        self.image_shape = shape
        self.leaves = leaves
        self.shapes = torch.tensor(shapes, device=device)
        self.below, self.radii = (torch.from_numpy(table).to(device) for table in radii)
        # Chunks: centres, sizes, kinds, directions, colours. A view may move one of them alone.
        self.latent = LatentSpec(dim=9 * leaves + 3, chunks=(2 * leaves, leaves, leaves, 2 * leaves, 3 * leaves + 3))

    def decode(self, z: Tensor) -> Leaves:
        """What a latent says. Shape: ``(B, 9 N + 3)``."""
        n = self.leaves
        height, width = self.image_shape
        centres, size, kind, directions, colours = z.float().split([2 * n, n, n, 2 * n, 3 * n + 3], dim=1)
        cosine, sine = directions[:, :n], directions[:, n:]
        norm = torch.sqrt(cosine * cosine + sine * sine + TINY)
        chosen = uniform(kind) * len(self.shapes)
        number = chosen.long().clamp(max=len(self.shapes) - 1)
        return Leaves(
            x=uniform(centres[:, :n]) * width,
            y=uniform(centres[:, n:]) * height,
            radius=self._radius(uniform(size)) * max(height, width),
            kind=self.shapes[number],
            proportion=chosen - number,
            cosine=cosine / norm,
            sine=sine / norm,
            colours=(uniform(colours) * 2.0 - 1.0).unflatten(1, (n + 1, 3)),
        )

    def _radius(self, u: Tensor) -> Tensor:
        """The quantile function of radii, linear between its knots."""
        above = torch.searchsorted(self.below, u.contiguous()).clamp(1, KNOTS - 1)
        low, high = self.below[above - 1], self.below[above]
        share = ((u - low) / (high - low)).clamp(0.0, 1.0)
        return self.radii[above - 1] + (self.radii[above] - self.radii[above - 1]) * share

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``; differentiable in the colours alone."""
        leaves = self.decode(z)
        with torch.no_grad():
            top = self.first_leaf(leaves)  # (B, H * W)
        pixels = leaves.colours.gather(1, top[:, :, None].expand(-1, -1, 3))
        return pixels.transpose(1, 2).unflatten(2, self.image_shape)

    def first_leaf(self, leaves: Leaves) -> Tensor:
        """Number of the first leaf that contains each pixel's centre; N where none does. Shape: ``(B, H * W)`` int64.

        Only pixels in the square around a leaf are looked at: most leaves are small.
        """
        height, width = self.image_shape
        batch = len(leaves.x)
        flat = {name: getattr(leaves, name).flatten() for name in ("x", "y", "radius")}
        left, right = _reach(flat["x"], flat["radius"], width)
        top, bottom = _reach(flat["y"], flat["radius"], height)
        columns, rows = (right - left).clamp(min=0), (bottom - top).clamp(min=0)
        ends = (columns * rows).cumsum(0).cpu().numpy()
        first = torch.full((batch * height * width,), self.leaves, dtype=torch.int64, device=leaves.x.device)
        shape = _Shape.of(leaves)
        begin = 0
        while begin < len(ends):
            done = int(ends[begin - 1]) if begin else 0
            end = max(int(np.searchsorted(ends, done + CANDIDATES, side="right")), begin + 1)
            which = slice(begin, end)
            counts = columns[which] * rows[which]
            leaf = torch.arange(begin, end, device=first.device).repeat_interleave(
                counts, output_size=int(ends[end - 1]) - done
            )
            place = torch.arange(len(leaf), device=first.device) - (counts.cumsum(0) - counts).index_select(
                0, leaf - begin
            )
            across = columns.index_select(0, leaf)
            down = torch.div(place, across, rounding_mode="floor")
            column = left.index_select(0, leaf) + place - down * across
            row = top.index_select(0, leaf) + down
            dx = column + 0.5 - flat["x"].index_select(0, leaf)
            dy = row + 0.5 - flat["y"].index_select(0, leaf)
            inside = shape.contains(leaf, dx, dy).nonzero()[:, 0]
            leaf, column, row = (values.index_select(0, inside) for values in (leaf, column, row))
            image = torch.div(leaf, self.leaves, rounding_mode="floor")
            first.scatter_reduce_(0, (image * height + row) * width + column, leaf - image * self.leaves, "amin")
            begin = end
        return first.unflatten(0, (batch, height * width))


def _reach(centre: Tensor, radius: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First pixel whose centre may lie within the radius, and the one after the last."""
    first = torch.ceil(centre - radius - 0.5).clamp(0, size)
    end = (torch.floor(centre + radius - 0.5) + 1.0).clamp(0, size)
    return first.long(), end.long()


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """The boundaries of all leaves in their own axes, in units of the radius. Shape: ``(B * N,)`` each."""

    circle: Tensor  # bool
    triangle: Tensor  # bool
    cosine: Tensor  # over the radius
    sine: Tensor
    half_length: Tensor  # of a box; of a triangle, how far its base lies behind the centre
    half_width: Tensor  # of a box; of a triangle, half its base over its height

    @classmethod
    def of(cls, leaves: Leaves) -> _Shape:
        kind = leaves.kind.flatten()
        proportion = leaves.proportion.flatten()
        turned = (kind == ORIENTED) | (kind == TRIANGLE)
        rectangle, triangle = kind == RECTANGLE, kind == TRIANGLE
        # A rectangle's sides are cos a and sin a for tan a = (0.2 ... 1.8); a square's are equal.
        ratio = torch.where(rectangle, 0.2 + 1.6 * proportion, torch.ones_like(proportion))
        length = 1.0 / torch.sqrt(1.0 + ratio * ratio)
        behind = proportion * 0.9
        return cls(
            circle=kind == CIRCLE,
            triangle=triangle,
            cosine=torch.where(turned, leaves.cosine.flatten(), torch.ones_like(ratio)) / leaves.radius.flatten(),
            sine=torch.where(turned, leaves.sine.flatten(), torch.zeros_like(ratio)) / leaves.radius.flatten(),
            half_length=torch.where(triangle, behind, length),
            half_width=torch.where(triangle, torch.sqrt(1.0 - behind * behind) / (1.0 + behind), ratio * length),
        )

    def contains(self, leaf: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
        """Whether leaves contain points at these distances from their centres. Shape: ``(M,) -> (M,)`` bool."""
        cosine, sine = self.cosine.index_select(0, leaf), self.sine.index_select(0, leaf)
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        length, width = self.half_length.index_select(0, leaf), self.half_width.index_select(0, leaf)
        circle = along * along + across * across <= 1.0
        box = (along.abs() <= length) & (across.abs() <= width)
        triangle = (along >= -length) & (across.abs() <= width * (1.0 - along))
        kind = torch.where(self.triangle.index_select(0, leaf), triangle, box)
        return torch.where(self.circle.index_select(0, leaf), circle, kind)
