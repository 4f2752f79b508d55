"""The report's pictures: results over the setting in which runs differ, and the curves of trainings. Needs matplotlib.

Runs differ in one setting: σ of their views, samples, epochs, or the share of another set's images.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genrep.files import digest_json
from genrep.look.colours import Theme
from genrep.look.plots import Plot, draw, line_style, plain

from .measured import Measured, ResultGroup, Stats, differences, stats_of
from .papers import Published, published
from .rows import Json, RowData, RunFacts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNIMPORTANT_OF_DATA = ("seed", "pairs_per_shard")
UPDATES, EPOCHS = ("total_steps", "warmup_steps"), ("epochs", "warmup_epochs")
# Metrics that are drawn, and what they are called.
PANELS = {
    "loss": "loss",
    "knn_top1": "kNN top-1 (%)",
    "accuracy": "accuracy of the objective",
    "embedding_std": "relative std of the embeddings",
    "alignment": "alignment",
    "uniformity": "uniformity",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run stands on the axis of a kind of sweep, among runs with the same other settings."""

    x: float
    rest: Json  # all other settings
    branch: Any = ""  # runs of one branch make a curve; None: part of each of them


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A setting that may differ."""

    name: str
    title: str
    axis: str
    place: Callable[[Json], Place | None]  # from ``settings``; None: the setting is not known, or not there
    log: bool = False
    published: str | None = None  # ``sweep`` of the papers' tables


@dataclass(frozen=True, kw_only=True)
class PlottedCurve:
    """A result over a setting."""

    label: str  # in what the runs differ from those of the other curves
    points: tuple[tuple[float, Stats], ...]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The curves of results that may be compared."""

    kind: Kind
    group: ResultGroup
    curves: tuple[PlottedCurve, ...]


def settings(run: RunFacts) -> Json | None:
    """The settings that determine a run, except its seed; None if its folder has none."""
    if run.config is None:
        return None
    said = run.run.method
    recipes = [data.recipe for data in run.data]
    if recipes and None not in recipes:
        said["sets"] = [
            {name: value for name, value in (recipe or {}).items() if name not in UNIMPORTANT_OF_DATA}
            for recipe in recipes
        ]
    else:
        ids = str(run.config.get("dataset_id")).split("+")
        said["sets"] = ids if len(ids) == len(recipes) else [run.config.get("dataset_id")]
    own: Json = json.loads(json.dumps(said))  # places take it apart
    return own


def _without(said: Json, *names: str) -> Json:
    return {name: value for name, value in said.items() if name not in names}


def _gaussians(view: Any) -> list[Json]:
    """The Gaussians of a view: itself, or those of a part of the latent."""
    if not isinstance(view, dict):
        return []
    if view.get("name") == "gaussian":
        return [view] if "std" in view else []
    parts = view.get("parts") if view.get("name") == "hierarchical" else None
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [one for part in parts for one in _gaussians(part.get("view"))]


def _std(said: Json) -> Place | None:
    """σ of the one Gaussian among the views."""
    gaussian = [view for one in said["sets"] if isinstance(one, dict) for view in _gaussians(one.get("views"))]
    if said.get("online") and isinstance(said.get("views"), str):
        name, _, rest = said["views"].partition(":")
        items = dict(item.partition("=")[::2] for item in rest.split(","))
        if name == "gaussian" and "std" in items:
            std = items.pop("std")
            return _place(std, {**_without(said, "views", "sets"), "gaussian": items})
    if len(gaussian) != 1:
        return None
    return _place(gaussian[0].pop("std"), said)


def _place(x: Any, rest: Json) -> Place | None:
    try:
        value = float(x)
    except (TypeError, ValueError):
        return None
    return Place(x=value, rest=rest) if math.isfinite(value) else None


def _samples(said: Json, same: tuple[str, ...]) -> Place | None:
    """Number of samples, where ``same`` stays."""
    if said.get("mix") is not None or said.get(same[0]) is None:
        return None
    gone = [name for name in (*UPDATES, *EPOCHS, "steps") if name not in same]
    rest = _without(said, "num_pairs", "limit", "steps_per_epoch", *gone)
    for one in rest["sets"]:
        if isinstance(one, dict):
            one.pop("num_pairs", None)
    return _place(said.get("num_pairs"), rest)


def _epochs(said: Json) -> Place | None:
    """Length of the training, each run with its own schedule."""
    return None if said.get("epochs") is None else _place(said["epochs"], _without(said, "epochs", "total_steps"))


def _mix(said: Json) -> Place | None:
    """Share of the second set; none for a run on the first set alone, which is part of every curve that begins there."""
    rest = {**_without(said, "mix"), "sets": said["sets"][:1]}
    if said.get("mix") is None:
        return Place(x=0.0, rest=rest, branch=None) if len(said["sets"]) == 1 and not said.get("online") else None
    place = _place(said["mix"], rest)
    return None if place is None else Place(x=place.x, rest=rest, branch=said["sets"][1:])


KINDS = (
    Kind(name="std", title="Distance of the latent views", axis="σ", place=_std, published="std"),
    Kind(
        name="samples-updates",
        title="Number of samples, at the same number of updates",
        axis="samples",
        place=lambda said: _samples(said, UPDATES),
        log=True,
    ),
    Kind(
        name="samples-epochs",
        title="Number of samples, at the same number of epochs",
        axis="samples",
        place=lambda said: _samples(said, EPOCHS),
        log=True,
    ),
    Kind(name="epochs", title="Length of the training", axis="epochs", place=_epochs, published="epochs"),
    Kind(name="mix", title="Images of another set", axis="share of the other set", place=_mix, published="mix"),
)


def find_sweeps(rows: Sequence[RowData], groups: Sequence[ResultGroup]) -> list[Sweep]:
    """Every result over every setting in which alone at least two rows differ."""
    found = []
    for kind in KINDS:
        places = {row.name: place for row in rows if (place := _of_row(row, kind)) is not None}
        for group in groups:
            first = group.quantities[0]
            if curves := _curves({name: places[name] for name in places if group.stats(name, first)}, group):
                found.append(Sweep(kind=kind, group=group, curves=curves))
    return found


def _of_row(row: RowData, kind: Kind) -> Place | None:
    """Where a row stands; None if its runs do not agree."""
    places = [None if (said := settings(run)) is None else kind.place(said) for run in row.runs]
    if not places or any(place != places[0] for place in places):
        return None
    return places[0]


def _curves(places: dict[str, Place], group: ResultGroup) -> tuple[PlottedCurve, ...]:
    lines: dict[str, tuple[Json, list[str]]] = {}
    for name, place in places.items():
        if place.branch is not None:
            key = digest_json([place.rest, place.branch])
            lines.setdefault(key, ({**place.rest, "branch": place.branch}, []))[1].append(name)
    for name, place in places.items():
        if place.branch is None:
            for rest, names in lines.values():
                if _without(rest, "branch") == place.rest:
                    names.append(name)
    kept = [(rest, names) for rest, names in lines.values() if len({places[name].x for name in names}) > 1]
    labels = differences([rest for rest, _ in kept])
    quantity = group.quantities[0]
    curves: list[PlottedCurve] = []
    for (_, names), label in zip(kept, labels):
        by_x: dict[float, list[Measured]] = {}
        for name in names:
            by_x.setdefault(places[name].x, []).extend(group.entries[name])
        points = [(x, stats_of(by_x[x], lambda one: one.quantities[quantity])) for x in sorted(by_x)]
        curves.append(
            PlottedCurve(label=label if len(label) <= 60 else f"curve {len(curves) + 1}", points=tuple(points))
        )
    return tuple(curves)


def has_curves(rows: Sequence[RowData]) -> bool:
    """Whether any run recorded its training."""
    return any(_points(run.lines, name) for row in rows for run in row.runs for name in PANELS)


def draw_curves(rows: Sequence[RowData]) -> Plot:
    """A panel for each metric that any run recorded, a line for each run; runs of a row look alike."""
    return draw(lambda theme: _curves_figure(rows, theme))


def _curves_figure(rows: Sequence[RowData], theme: Theme) -> Figure:
    from matplotlib.figure import Figure

    named = [name for name in PANELS if any(_points(run.lines, name) for row in rows for run in row.runs)]
    columns = min(3, len(named))
    lines = -(-len(named) // columns)
    shown = [row for row in rows if any(_points(run.lines, name) for run in row.runs for name in named)]
    legend = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * lines + 0.25 * legend), layout="constrained")
    all_axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in all_axes[len(named) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes, name in zip(all_axes, named):
        for number, row in enumerate(shown):
            for points in (_points(run.lines, name) for run in row.runs):
                if points:
                    (line,) = axes.plot(*zip(*points), **line_style(theme, number, len(points)))
                    handles.setdefault(row.name, line)
        axes.set_title(PANELS[name])
        axes.set_xlabel("step")
    names = [plain(name) for name in handles]
    figure.legend(list(handles.values()), names, loc="outside lower center", ncols=columns)
    return figure


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [
        (line["step"], line[name])
        for line in lines
        if isinstance(line.get(name), (int, float)) and not isinstance(line[name], bool)
    ]


def draw_sweep(sweep: Sweep, title: str) -> Plot:
    """Our curves; the papers' in the same panel where the protocol is the same, else in panels of their own."""
    return draw(lambda theme: _sweep_figure(sweep, title, theme))


def _sweep_figure(sweep: Sweep, title: str, theme: Theme) -> Figure:
    from matplotlib.figure import Figure

    same, others = _published(sweep)
    figure = Figure(figsize=(5.2 * (1 + len(others)), 3.8), layout="constrained")
    panels = figure.subplots(1, 1 + len(others), squeeze=False)[0]
    quantity, unit = sweep.group.quantities[0], str(sweep.group.first.get("unit", ""))
    for number, curve in enumerate(sweep.curves):
        _draw_curve(panels[0], curve, line_style(theme, number, 1))
    theirs = {"color": theme.quiet, "linestyle": ":", "marker": "s", "markerfacecolor": theme.ground}
    for label, line in same.items():
        panels[0].plot(*zip(*line), **theirs, label=plain(label))
    panels[0].set_title(textwrap.fill(plain(title), 60))
    panels[0].set_ylabel(plain(f"{quantity} ({unit})" if unit else quantity))
    if len(sweep.curves) > 1 or sweep.curves[0].label or same:
        panels[0].legend()
    for axes, (label, line) in zip(panels[1:], others.items()):
        axes.plot(*zip(*line), **theirs)
        axes.set_title(plain(label))
        axes.set_ylabel("top-1 (percent)")
    for axes in panels:
        axes.set_xlabel(sweep.kind.axis)
        if sweep.kind.log:
            axes.set_xscale("log")
    return figure


def _draw_curve(axes: Any, curve: PlottedCurve, look: dict[str, Any]) -> None:
    stats = [stats for _, stats in curve.points]
    axes.errorbar(
        [x for x, _ in curve.points],
        [one.mean for one in stats],
        yerr=[one.std or 0.0 for one in stats] if any(one.std for one in stats) else None,
        label=plain(curve.label or "ours"),
        **look,
    )


def published_of(sweep: Sweep) -> list[Published]:
    """The papers' points of the same kind of curve."""
    return [one for one in published() if one.sweep is not None and one.sweep == sweep.kind.published]


def _published(sweep: Sweep) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[tuple[float, float]]]]:
    """The papers' curves by label: those of the same protocol, and the others."""
    same: dict[str, list[tuple[float, float]]] = {}
    others: dict[str, list[tuple[float, float]]] = {}
    for one in published_of(sweep):
        assert one.x is not None
        if one.comparable(sweep.group.dataset, sweep.group.protocol):
            same.setdefault(f"published: {one.paper}, {one.table}", []).append((one.x, one.value))
        else:
            label = f"published: {one.paper}, {one.table}\n{one.column}, {one.protocol.name}"
            others.setdefault(label, []).append((one.x, one.value))
    return same, others
