"""What a latent view is, and the grammar ``name:key=value,...`` that names one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genrep import seeding
from genrep.errors import RecipeError

from ..generators.base import LatentSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Where the positives of a batch draw from: pair ``indices`` (B,) and positive number ``k`` under ``seed``."""

    seed: int
    indices: NDArray[np.int64]
    k: int = 0

    @property
    def stream(self) -> int:
        """The seeding stream of positive k."""
        return seeding.POSITIVE + self.k


@dataclass(frozen=True, kw_only=True)
class View:
    """Base of all views: a name, its numbers, and one pure function of (anchor latents, draw)."""

    name: ClassVar[str]
    has_positive: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = False

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """Latents of the positives. Shape: ``(B, d) -> (B, d)``, float32; row b depends on row b and its index alone."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The view as it stands in a recipe."""
        return {"name": self.name, **{field.name: getattr(self, field.name) for field in fields(self)}}


@dataclass(frozen=True, kw_only=True)
class NoView(View):
    """Anchors only; the trainer takes two pixel views of the anchor (the papers' "T_z = none")."""

    name = "none"
    has_positive = False


@dataclass(frozen=True, kw_only=True)
class GaussianView(View):
    """``z' = z + w``, w ~ N^t(0, std) (GenRep section 3.2): each component of w redrawn outside +-truncation * std.

    The sum is not truncated again, as in the papers.
    """

    name = "gaussian"
    std: float = 0.2  # of w before truncation, in units of the latent's components
    truncation: float = 2.0  # in units of std; "inf" draws plain normals

    def __post_init__(self) -> None:
        if not (math.isfinite(self.std) and self.std > 0):
            raise RecipeError(f"views gaussian: std={self.std}, wanted a positive number")
        if not self.truncation > 0:
            raise RecipeError(f"views gaussian: truncation={self.truncation}, wanted a positive number")

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        if math.isinf(self.truncation):
            w = seeding.standard_normals(draw.seed, draw.indices, draw.stream, z.shape[1])
        else:
            w = seeding.truncated_normals(draw.seed, draw.indices, draw.stream, z.shape[1], self.truncation)
        return z + (w * self.std).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: an untruncated view says null."""
        return {**super().to_json(), "truncation": None if math.isinf(self.truncation) else self.truncation}


@dataclass(frozen=True, kw_only=True)
class IndependentView(View):
    """``z' ~ p_z`` with the anchor's class (GenRep section 3.2): only the class is shared."""

    name = "independent"
    needs_classes = True

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        return latent.sample(draw.seed, draw.indices, draw.stream)


VIEWS: dict[str, type[View]] = {view.name: view for view in (NoView, GaussianView, IndependentView)}
NAMES = tuple(VIEWS)


def parse_view(text: str) -> View:
    """Read ``name:key=value,key=value``, e.g. ``gaussian:std=.2,truncation=2``.

    Raises:
        RecipeError: an unknown name or key, or a value that is no number of the right kind.
    """
    name, _, rest = text.partition(":")
    values: dict[str, Any] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if not equals or not key or key in values:
            raise RecipeError(f"--views {text!r}: {item!r} is not one key=value (or repeats a key)")
        try:
            values[key] = float(value)
        except ValueError:
            raise RecipeError(f"--views {text!r}: {key}={value!r} is not a number") from None
    return view_from_json({"name": name, **values}, where=f"--views {text!r}")


def view_from_json(value: Any, where: str = "views") -> View:
    """Rebuild a view from a recipe's table; the reverse of ``View.to_json``.

    Raises:
        RecipeError: as ``parse_view``.
    """
    if isinstance(value, str):
        return parse_view(value)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise RecipeError(f"{where}: wanted a table with a name")
    kind = VIEWS.get(value["name"])
    if kind is None:
        raise RecipeError(f"{where}: unknown view {value['name']!r}; known: {', '.join(NAMES)}")
    known = {field.name for field in fields(kind)}
    numbers = {key: math.inf if item is None else item for key, item in value.items() if key != "name"}
    for key, item in numbers.items():
        if key not in known:
            wanted = ", ".join(sorted(known)) or "none"
            raise RecipeError(f"{where}: {kind.name} has no parameter {key!r}; known: {wanted}")
        if isinstance(item, bool) or not isinstance(item, (int, float)) or math.isnan(item):
            raise RecipeError(f"{where}: {key}={item!r} is not a number")
    return kind(**{key: float(item) for key, item in numbers.items()})
