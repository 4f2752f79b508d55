"""Which views a sheet shows, each as a panel: a group of columns with a heading; and the latents of their positives."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError

from ..generators.base import Generator, LatentSpec
from ..recipes.recipe import Recipe
from ..views import GeneratorFacts, View, parse_view
from ..views.base import Draw
from ..views.composed import HierarchicalView, Part
from ..views.learned import LearnedView
from ..views.random import GaussianView
from .config import PreviewConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What --compare shows if the generator supports it: the random views of GenRep and HL.
COMPARED = (
    "genrep-gaussian",
    "genrep-gaussian-conditional",
    "uniform",
    "angular",
    "independent",
    "hl-random-bigbigan",
    "hl-random-stylegan2-car",
)
PATH = re.compile(r"[^:=,]*/[^:=,]*")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A view and its heading."""

    title: str
    view: View
    part: tuple[str, ...] = ()  # with --chunks each: which one, and a hierarchical view's own view of it


def make_panels(
    config: PreviewConfig, recipe: Recipe, generator: Generator, latent: LatentSpec
) -> tuple[tuple[Panel, ...], tuple[RecipeError, ...]]:
    """The panels of a sheet from left to right, and why other views do not fit this generator.

    Raises:
        RecipeError: a view cannot be read; none is left that has positives and is for this generator; or ``--chunks each``
            without chunks or W layers.
    """
    facts = GeneratorFacts.of(generator)
    panels = [Panel(title=short(text), view=parse_view(text)) for text in config.views]
    if not panels and config.distances and not config.compare:
        # The direction of a normal vector is uniform on the sphere.
        panels.append(Panel(title="random direction", view=GaussianView(std=1.0, truncation=math.inf)))
    elif not panels:
        panels.append(Panel(title=describe(recipe.views), view=recipe.views))
    if config.compare:
        panels += _compared(panels, latent, facts)
    panels, faults = _admitted(panels, latent, facts)
    if config.chunks is not None and panels:
        over, parts = _all_parts(recipe, generator, latent)
        panels, more = _admitted([alone for panel in panels for alone in _each(panel, over, parts)], latent, facts)
        faults += more
    if not panels:
        raise faults[0]
    return tuple(panels), tuple(faults)


def _admitted(panels: list[Panel], latent: LatentSpec, facts: GeneratorFacts) -> tuple[list[Panel], list[RecipeError]]:
    """The panels whose views have positives and are for this generator; and what is wrong with the others."""
    kept, faults = [], []
    for panel in panels:
        try:
            if not panel.view.has_positive:
                raise RecipeError.naming("{views} {}: has no positives to show", panel.title)
            panel.view.check(latent, facts)
            kept.append(panel)
        except RecipeError as fault:
            faults.append(fault)
    return kept, faults


def _compared(panels: list[Panel], latent: LatentSpec, facts: GeneratorFacts) -> list[Panel]:
    """The papers' views that the generator supports and the sheet does not show yet."""
    found: list[Panel] = []
    for text in COMPARED:
        view = parse_view(text)
        try:
            view.check(latent, facts)
        except RecipeError:
            continue
        if all(view != panel.view for panel in panels):
            found.append(Panel(title=text, view=view))
    return found


def _all_parts(recipe: Recipe, generator: Generator, latent: LatentSpec) -> tuple[str, list[tuple[int, int]]]:
    """What ``--chunks each`` takes one by one, as first and last: chunks of z, or else groups of W layers."""
    if len(latent.chunks) > 1:
        return "chunks", [(i, i) for i in range(len(latent.chunks))]
    groups: Any = getattr(generator, "layer_groups", ())
    if not groups:
        raise RecipeError.naming("{chunks} each: {} has neither chunks nor W layers to move alone", recipe.name)
    return "layers", [(first, end - 1) for first, end in groups]


def _each(panel: Panel, over: Any, parts: list[tuple[int, int]]) -> list[Panel]:
    """The panel's view on each part alone; a hierarchical view's own parts, which draw as they do together."""
    if isinstance(panel.view, HierarchicalView):
        return [
            replace(
                panel,
                view=HierarchicalView(over=panel.view.over, parts=(part,)),
                part=(_part_name(panel.view.over, part), describe(view)),
            )
            for part, view in panel.view.moved
        ]
    alone = [Part(first=first, last=last, view=panel.view) for first, last in parts]
    return [
        replace(panel, view=HierarchicalView(over=over, parts=(part,)), part=(_part_name(over, part),))
        for part in alone
    ]


def _part_name(over: str, part: Part) -> str:
    """``chunk 3``, ``layers 0-3``."""
    return f"{over.removesuffix('s') if part.first == part.last else over} {part.range}"


def short(text: str) -> str:
    """A view's text with paths cut down to their last two names."""
    return PATH.sub(lambda match: "/".join(match[0].split("/")[-2:]), text)


def describe(view: View) -> str:
    """A view in the words of the command line."""
    if isinstance(view, LearnedView) and view.learned:
        return short(f"{view.name}:{getattr(view, view.file_key)}")
    return _words(view.to_json())


def _words(record: dict[str, Any]) -> str:
    if "parts" not in record:
        values = ",".join(f"{key}={_word(value)}" for key, value in record.items() if key not in ("name", "digest"))
        return f"{record['name']}:{values}" if values else str(record["name"])
    parts = []
    for part in record["parts"]:
        place = next(value for key, value in part.items() if key != "view")
        parts.append(f"{_word(place)} {_words(part['view'])}" if part["view"] else f"{place} none")
    return f"{record['name']}: {', '.join(parts)}"


def _word(value: Any) -> str:
    return "inf" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def positives(
    panel: Panel,
    anchors: NDArray[np.float32],
    latent: LatentSpec,
    *,
    seed: int,
    num_positives: int,
    distances: tuple[float, ...] = (),
) -> NDArray[np.float32]:
    """Latents of the positives: those that a dataset of this view and seed has for pairs 0 to A - 1.

    With ``distances``: points at these distances from the anchor, in the direction of the dataset's first positive.

    Shape: anchors ``(A, d)`` -> ``(A, K, d)``, or ``(A, K, G, d)`` for a view on G groups of W layers.

    Raises:
        RecipeError: a direction is asked for, and the view does not move one of the anchors.
    """
    indices = np.arange(len(anchors), dtype=np.int64)
    count = 1 if distances else num_positives
    drawn = [panel.view.transform(anchors, latent, Draw(seed=seed, indices=indices, k=k)) for k in range(count)]
    if not distances:
        return np.stack(drawn, axis=1)
    step = shifts(anchors, drawn[0][:, None])  # (A, 1, ..., d)
    length = norms(step)
    if not length.all():
        pair = np.flatnonzero(length[:, 0] == 0)[0]
        raise RecipeError.naming("{distances}: view {} does not move pair {}: there is no direction", panel.title, pair)
    wide = (1,) * (step.ndim - 2)
    unit = step / length.reshape(-1, 1, *wide)
    far = np.asarray(distances).reshape(1, -1, *wide)
    return (_beside(anchors, step) + unit * far).astype(np.float32)


def shifts(anchors: NDArray[np.float32], moved: NDArray[np.float32]) -> NDArray[np.float64]:
    """``z' - z`` in float64. Shapes: ``(A, d), (A, K, ..., d) -> (A, K, ..., d)``."""
    wide: NDArray[np.float64] = moved.astype(np.float64)
    return wide - _beside(anchors, moved)


def norms(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean lengths, over all groups of W layers together. Shape: ``(A, K, ..., d) -> (A, K)``."""
    found: NDArray[np.float64] = np.sqrt(np.square(step).sum(axis=tuple(range(2, step.ndim))))
    return found


def _beside(anchors: NDArray[np.float32], others: NDArray[Any]) -> NDArray[np.float32]:
    return anchors.reshape(len(anchors), *(1,) * (others.ndim - 2), -1)
