"""Views that are random laws: nothing to learn, nothing to load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genrep import seeding
from genrep.errors import RecipeError, one_of

from ..generators.base import LatentSpec
from .base import Draw, GeneratorFacts, View, row_norms, row_sums, sin_cos

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANGULAR_LAWS = ("angle", "sum")
TINY = 1e-300  # keeps 0 / 0 away; the quotient's other factor is 0 then


def _want_positive(view: str, **values: float) -> None:
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise RecipeError(f"views {view}: {key}={value}, wanted a positive number")


@dataclass(frozen=True, kw_only=True)
class NoView(View):
    """Anchors only; the trainer takes two pixel views of the anchor (the papers' "T_z = none").

    Where a composed view names it, z' = z.
    """

    name = "none"
    has_positive = False

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        return z.copy()


@dataclass(frozen=True, kw_only=True)
class GaussianView(View):
    """``z' = z + w``, w ~ N^t(0, std) (GenRep section 3.2): each component of w redrawn outside +-truncation * std.

    The sum is not truncated again, as in the papers.
    """

    name = "gaussian"
    std: float = 0.2  # of w before truncation, in units of the latent's components
    truncation: float = 2.0  # in units of std; "inf" draws plain normals

    def __post_init__(self) -> None:
        _want_positive(self.name, std=self.std)
        if not self.truncation > 0:
            raise RecipeError(f"views gaussian: truncation={self.truncation}, wanted a positive number")

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        if math.isinf(self.truncation):
            w = seeding.standard_normals(draw.seed, draw.indices, draw.stream, z.shape[1])
        else:
            w = seeding.truncated_normals(draw.seed, draw.indices, draw.stream, z.shape[1], self.truncation)
        return z + (w * self.std).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class UniformView(View):
    """``z' = z + u``, each component of u uniform in +-radius, a ball of the maximum norm.

    GenRep's scripts call it a ball and draw each component by itself, with radius sqrt(3) * std for a deviation of std;
    the default's deviation is the 0.2 of ``gaussian``.
    """

    name = "uniform"
    radius: float = 0.3464

    def __post_init__(self) -> None:
        _want_positive(self.name, radius=self.radius)

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        u = seeding.uniforms(draw.seed, draw.indices, draw.stream, z.shape[1])
        return z + ((2.0 * u - 1.0) * self.radius).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class AngularView(View):
    """z turned towards a random direction, its norm kept to within float32's rounding.

    ``law`` "angle": by an angle ``|N(0, std)|`` in radians, towards a direction uniform among those orthogonal to z.
    "sum": GenRep's script, ``z' = ||z|| (z + w) / ||z + w||`` with w ~ N^t(0, std, 2); the norms here are those of one
    latent, where the script took those of a whole array of latents. In many dimensions, with components of unit
    deviation, its angle is nearly constant, about ``atan(0.88 std)``.
    """

    name = "angular"
    std: float = 0.2
    law: str = "angle"

    def __post_init__(self) -> None:
        _want_positive(self.name, std=self.std)
        if self.law not in ANGULAR_LAWS:
            raise RecipeError(f"views angular: law={self.law}, wanted one of {one_of(self.law, ANGULAR_LAWS)}")

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        dim, wide = z.shape[1], z.astype(np.float64)
        norm = row_norms(wide)
        if self.law == "sum":
            w = seeding.truncated_normals(draw.seed, draw.indices, draw.stream, dim, 2.0)
            turned = wide + w * self.std
            return (turned * (norm / np.maximum(row_norms(turned), TINY))).astype(np.float32)
        normals = seeding.standard_normals(draw.seed, draw.indices, draw.stream, dim + 1)
        direction, angle = normals[:, :dim], np.abs(normals[:, dim:] * self.std)
        unit = wide / np.maximum(norm, TINY)
        direction = direction - unit * row_sums(direction * unit)
        direction = direction * (norm / np.maximum(row_norms(direction), TINY))
        sine, cosine = sin_cos(angle)
        return (wide * cosine + direction * sine).astype(np.float32)

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        if latent.dim < 2:
            raise RecipeError.naming("{views} angular: a latent of one component has no direction to turn to")


@dataclass(frozen=True, kw_only=True)
class IndependentView(View):
    """``z' ~ p_z`` with the anchor's class (GenRep section 3.2): only the class is shared."""

    name = "independent"

    @property
    def needs_classes(self) -> bool:
        """See ``View.needs_classes``."""
        return True

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        return latent.sample(draw.seed, draw.indices, draw.stream)
