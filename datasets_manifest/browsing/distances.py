"""How far positives lie from their anchors in latent space, and how far anchors of different pairs lie apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cards.facts import look, text_at
from ..manifest import Manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SERIES = 12  # that are drawn
MAX_PARTS = 32  # of a latent
RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")
SIGNIFICANT = 4  # digits of a pair's own distances


@dataclass(frozen=True, kw_only=True)
class LatentPart:
    """A piece of the latent that a view moves by itself."""

    name: str
    start: int  # of the flattened anchor, in values
    stop: int
    group: int | None = None  # which of a positive's several latents


@dataclass(kw_only=True)
class Series:
    """Euclidean distances of one kind, over many pairs."""

    name: str
    values: list[float] = field(default_factory=list)
    unrelated: list[float] = field(default_factory=list)  # of an anchor and the next one that was measured


class Distances:
    """What is measured, pair by pair: a series per positive, or per part where a view has several.

    Where a positive has latents of its own for groups of layers, each group is a part and there is no distance of the whole.
    """

    def __init__(self, manifest: Manifest) -> None:
        latents = manifest.latent_fields
        if latents and latents[0]["name"] != "z_anchor":
            latents = []  # of real anchors, which have none to measure from
        self.names = [entry["name"].removeprefix("z_") for entry in latents[1:]]
        self.parts: list[LatentPart] = []
        self.grouped = False
        self.measurable = bool(self.names)
        if self.measurable:
            anchor, positive = latents[0]["shape"], latents[1]["shape"]
            size, moved = int(np.prod(anchor)), int(np.prod(positive))
            self.grouped = positive != anchor and moved % size == 0 and positive[1:] == anchor
            self.measurable = self.grouped or size == moved
            if self.measurable:
                self.parts = _groups(manifest, size, positive[0]) if self.grouped else _chunks(manifest, size)
        whole = [] if self.grouped or not self.measurable else self.names
        self.series = [Series(name=name) for name in whole]
        self.part_series = [Series(name=part.name) for part in self.parts]
        self.left_out = 0  # pairs with values that are not finite
        self.measured = 0
        self._last: NDArray[np.float64] | None = None

    def add(self, anchor: NDArray[Any], positives: Sequence[NDArray[Any]]) -> list[float] | None:
        """Measure a pair: the distance of each positive; None where its latents are not finite numbers."""
        z = anchor.astype(np.float64).reshape(-1)
        others = [other.astype(np.float64).reshape(-1, z.size) for other in positives]
        if not (np.isfinite(z).all() and all(np.isfinite(other).all() for other in others)):
            self.left_out += 1
            return None
        self.measured += 1
        totals = [float(np.linalg.norm(other - z)) for other in others]
        for one, total in zip(self.series, totals):
            one.values.append(total)
        for part, one in zip(self.parts, self.part_series):
            piece = slice(part.start, part.stop)
            one.values += [float(np.linalg.norm((other[part.group or 0] - z)[piece])) for other in others]
        if self._last is not None:
            apart = z - self._last
            for one in self.series:
                one.unrelated.append(float(np.linalg.norm(apart)))
            for part, one in zip(self.parts, self.part_series):
                one.unrelated.append(float(np.linalg.norm(apart[part.start : part.stop])))
        self._last = z
        return totals


def rounded(value: float) -> float:
    """To the digits that a page needs."""
    return float(f"{value:.{SIGNIFICANT}g}")


def mixed(manifest: Manifest) -> int:
    """How many views a mixture has, of which each pair got one that is not stored; 0 where there is no mixture."""
    parts = look(manifest.recipe, "views", "parts")
    return len(parts) if text_at(manifest.recipe, "views", "name") == "mix" and isinstance(parts, list) else 0


def _moved(manifest: Manifest, over: str) -> list[tuple[str, str]]:
    """Range and view's name of each part of a hierarchical view that moves anything."""
    views = look(manifest.recipe, "views")
    parts = look(views, "parts")
    if text_at(views, "name") != "hierarchical" or text_at(views, "over") != over or not isinstance(parts, list):
        return []
    moved = [part for part in parts if isinstance(part, dict) and part.get("view") is not None]
    return [(text_at(part, over) or "", text_at(part, "view", "name") or "view") for part in moved]


def _groups(manifest: Manifest, size: int, count: int) -> list[LatentPart]:
    """A part per latent of a positive."""
    if count > MAX_PARTS:
        return []
    told = _moved(manifest, "layers")
    names = [f"layers {where}: {view}" for where, view in told]
    names = names if len(names) == count else [f"group {group}" for group in range(count)]
    return [LatentPart(name=name, start=0, stop=size, group=group) for group, name in enumerate(names)]


def _chunks(manifest: Manifest, size: int) -> list[LatentPart]:
    """A part per view over chunks, else per chunk; none where the latent enters at once."""
    chunks = look(manifest.recipe, "latent", "chunks")
    if not isinstance(chunks, list) or not 1 < len(chunks) <= MAX_PARTS:
        return []
    if any(type(chunk) is not int or chunk < 1 for chunk in chunks) or sum(chunks) != size:
        return []
    edges = [sum(chunks[:k]) for k in range(len(chunks) + 1)]
    told = [(RANGE.fullmatch(where), where, view) for where, view in _moved(manifest, "chunks")]
    found = []
    for match, where, view in told:
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first <= last < len(chunks):
            found.append(LatentPart(name=f"chunks {where}: {view}", start=edges[first], stop=edges[last + 1]))
    return found or [
        LatentPart(name=f"chunk {k}", start=start, stop=stop) for k, (start, stop) in enumerate(pairwise(edges))
    ]
