"""Views made of other views: one for each part of the latent or of the network, or one of several at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genrep import seeding
from genrep.errors import RecipeError, phrase

from ..generators.base import LatentSpec
from .base import Draw, GeneratorFacts, View, ViewFile, check_range, show_range
from .learned import NavigatorView

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVER = ("chunks", "layers")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Chunks or W layers ``first`` to ``last``, both included, and their view; None keeps the anchor's."""

    first: int
    last: int
    view: View | None

    @property
    def range(self) -> str:
        """``1-5``, or ``3``."""
        return show_range(self.first, self.last)


@dataclass(frozen=True, kw_only=True)
class HierarchicalView(View):
    """A view or none for each part of a latent that enters a generator in parts (HL); the rest stays the anchor's.

    Over ``chunks``, a part's view acts on its chunks of z alone. Over ``layers`` (StyleGAN2), each part's view moves the
    anchor's whole z, and w = f(z') replaces the anchor's in the part's W layers; ``transform`` gives the z' of each part
    that has a view. Parts draw independently of each other.
    """

    name = "hierarchical"
    over: Literal["chunks", "layers"]
    parts: tuple[Part, ...]  # disjoint, in ascending order

    def __post_init__(self) -> None:
        if not any(part.view is not None for part in self.parts):
            raise RecipeError("views hierarchical: no part has a view")
        for before, after in zip(self.parts, self.parts[1:]):
            if after.first <= before.last:
                raise RecipeError(
                    f"views hierarchical: {self.over} {before.range} and {after.range}: wanted disjoint, in ascending order"
                )

    @property
    def moved(self) -> tuple[tuple[Part, View], ...]:
        """The parts that have a view."""
        return tuple((part, part.view) for part in self.parts if part.view is not None)

    @property
    def w_groups(self) -> tuple[tuple[int, int], ...]:
        """See ``View.w_groups``."""
        return tuple((part.first, part.last) for part, _ in self.moved) if self.over == "layers" else ()

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        if self.over == "layers":
            groups = [view.transform(z, latent, draw.part("layers", part.range)) for part, view in self.moved]
            return np.stack([group.reshape(z.shape) for group in groups], axis=1)
        moved = z.copy()
        for part, view in self.moved:
            start, stop = _components(latent, part)
            chunk = np.ascontiguousarray(z[:, start:stop])
            moved[:, start:stop] = view.transform(chunk, _part_latent(latent, part), draw.part("chunks", part.range))
        return moved

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        count = len(latent.chunks) if self.over == "chunks" else generator.num_layers
        if not count:
            lacking = "its latent is not divided into chunks" if self.over == "chunks" else "it has no W layers"
            raise RecipeError.naming(
                "{views} hierarchical over {}: not possible with this generator, {}", self.over, lacking
            )
        kept = count
        for part, view in self.moved:
            check_range(part.range, count, phrase("{views} hierarchical: {}", self.over), self.over)
            self._check_learned(part, view)
            kept -= (part.last - part.first + 1) * view.needs_classes
        if kept:  # what a part resamples, another part or the rest shares
            generator = replace(generator, num_classes=max(1, generator.num_classes))
        for part, view in self.moved:
            view.check(_part_latent(latent, part) if self.over == "chunks" else latent, generator)

    def _check_learned(self, part: Part, view: View) -> None:
        """Check that a view learned for certain chunks or layers is used for these."""
        for_layers, for_chunks = view.w_groups, view.record["chunks"] if isinstance(view, NavigatorView) else ""
        place = (part.first, part.last)
        if for_layers and (self.over == "chunks" or for_layers != (place,)):
            wanted = ", ".join(f"layers {show_range(*group)}" for group in for_layers)
        elif for_chunks and (self.over == "layers" or check_range(for_chunks, None, "views", "chunks") != place):
            wanted = f"chunks {for_chunks}"
        else:
            return
        raise RecipeError.naming(
            "{views} hierarchical: {} {}: its view {} is for {}", self.over, part.range, view.name, wanted
        )

    @property
    def latents_need_files(self) -> bool:
        """See ``View.latents_need_files``."""
        return any(view.latents_need_files for _, view in self.moved)

    def files(self) -> tuple[ViewFile, ...]:
        """See ``View.files``."""
        return tuple(file for _, view in self.moved for file in view.files())

    def to_json(self) -> dict[str, Any]:
        """See ``View.to_json``."""
        parts = [{self.over: part.range, "view": part.view.to_json() if part.view else None} for part in self.parts]
        return {"name": self.name, "over": self.over, "parts": parts}


def _components(latent: LatentSpec, part: Part) -> tuple[int, int]:
    """First and end component of z of a part."""
    return sum(latent.chunks[: part.first]), sum(latent.chunks[: part.last + 1])


def _part_latent(latent: LatentSpec, part: Part) -> LatentSpec:
    """The law of a part of z, as a latent."""
    start, stop = _components(latent, part)
    return replace(latent, dim=stop - start, shape=(), chunks=())


@dataclass(frozen=True, kw_only=True)
class WeightedView:
    """A view and how often it is chosen, relative to the others."""

    weight: float
    view: View


@dataclass(frozen=True, kw_only=True)
class MixView(View):
    """One of several views for each pair and each of its positives, chosen by the pair's stream with these weights."""

    name = "mix"
    parts: tuple[WeightedView, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise RecipeError("views mix: wanted at least one view")
        for part in self.parts:
            if not (math.isfinite(part.weight) and part.weight > 0):
                raise RecipeError(f"views mix: weight={part.weight} of {part.view.name}, wanted a positive number")

    @property
    def needs_classes(self) -> bool:
        """See ``View.needs_classes``."""
        return any(part.view.needs_classes for part in self.parts)

    @property
    def w_groups(self) -> tuple[tuple[int, int], ...]:
        """See ``View.w_groups``; raises RecipeError if the views differ in it."""
        groups = self.parts[0].view.w_groups
        for part in self.parts:
            if part.view.w_groups != groups:
                raise RecipeError(
                    f"views mix: {self.parts[0].view.name} and {part.view.name} do not move the same W layers"
                )
        return groups

    def chosen(self, draw: Draw) -> NDArray[np.int64]:
        """Numbers of the chosen views. Shape: ``(B,)``."""
        coin = draw.part("mix")
        u = seeding.uniforms(coin.seed, coin.indices, coin.stream, 1)[:, 0]
        total, edges = math.fsum(part.weight for part in self.parts), []
        for count in range(1, len(self.parts)):
            edges.append(math.fsum(part.weight for part in self.parts[:count]) / total)
        return np.searchsorted(np.array(edges), u, side="right")

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        positives = np.empty((len(z), *self.positive_shape(latent)), dtype=np.float32)
        chosen = self.chosen(draw)
        for number, part in enumerate(self.parts):
            rows = np.flatnonzero(chosen == number)
            if len(rows):
                positives[rows] = part.view.transform(z[rows], latent, draw.rows(rows).part("mix", number))
        return positives

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        self.positive_shape(latent)
        for part in self.parts:
            part.view.check(latent, generator)

    @property
    def latents_need_files(self) -> bool:
        """See ``View.latents_need_files``."""
        return any(part.view.latents_need_files for part in self.parts)

    def files(self) -> tuple[ViewFile, ...]:
        """See ``View.files``."""
        return tuple(file for part in self.parts for file in part.view.files())

    def to_json(self) -> dict[str, Any]:
        """See ``View.to_json``."""
        return {
            "name": self.name,
            "parts": [{"weight": part.weight, "view": part.view.to_json()} for part in self.parts],
        }
