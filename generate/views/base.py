"""What a latent view is, and where it draws from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
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

    def part(self, *names: int | str) -> Draw:
        """The same pairs under a key of the named part of a composed view: parts never share a random number."""
        return replace(self, seed=seeding.derive("view", self.seed, *names))

    def rows(self, rows: NDArray[np.int64]) -> Draw:
        """Some of the pairs; they draw what they would have drawn among all."""
        return replace(self, indices=self.indices[rows])


@dataclass(frozen=True, kw_only=True)
class GeneratorFacts:
    """What a view has to know of a generator besides its latent."""

    num_classes: int = 0  # 0 = unconditional
    num_layers: int = 0  # W inputs of the synthesis network, 0 = there is no W

    @classmethod
    def of(cls, generator: Any) -> GeneratorFacts:
        """The facts of a Generator."""
        num_layers = generator.num_ws if hasattr(generator, "synthesize_w") else 0
        return cls(num_classes=generator.num_classes, num_layers=num_layers)


@dataclass(frozen=True, kw_only=True)
class ViewFile:
    """A file that a view has learned parameters from."""

    digest: str  # hex sha256 of the tensors, whatever contains them: the identity
    path: Path
    sha256: str  # of the file


@dataclass(frozen=True, kw_only=True)
class View:
    """Base of all views: a name, its parameters, and one pure function of (anchor latents, draw)."""

    name: ClassVar[str]
    has_positive: ClassVar[bool] = True

    @property
    def needs_classes(self) -> bool:
        """Is the class all that a positive shares with its anchor?"""
        return False

    @property
    def w_groups(self) -> tuple[tuple[int, int], ...]:
        """First and last W layer of each group that a z' of its own goes to; empty: one z' for the whole network."""
        return ()

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """Latents of the positives; row b depends on row b and its index alone.

        Shape: ``(B, d) -> (B, d)`` float32, or ``(B, G, d)`` for a view on G groups of W layers.
        """
        raise NotImplementedError

    def positive_shape(self, latent: LatentSpec) -> tuple[int, ...]:
        """Shape of one positive's latent: ``(d,)``, or ``(G, d)`` for a view on G groups of W layers."""
        return (len(self.w_groups), latent.dim) if self.w_groups else (latent.dim,)

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """Raises RecipeError, in one line, if this view cannot be taken of such a generator."""
        if self.needs_classes and generator.num_classes == 0:
            raise RecipeError(f"--views {self.name}: needs a class-conditional generator, this one has no classes")

    def files(self) -> tuple[ViewFile, ...]:
        """The files that the view was read from."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """The view as it stands in a recipe: all that its positives depend on; null stands for infinity."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        infinite = {key for key, value in values.items() if isinstance(value, float) and math.isinf(value)}
        return {"name": self.name, **{key: None if key in infinite else value for key, value in values.items()}}
