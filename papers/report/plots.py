"""The report's pictures: a result over a setting, and the curves of trainings. Needs matplotlib."""

from __future__ import annotations

import importlib.util
import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .measured import Stats
from .papers import Published, published
from .rows import RowData
from .sweeps import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Metrics that are drawn, and what they are called.
PANELS = {
    "loss": "loss",
    "knn_top1": "kNN top-1 (%)",
    "accuracy": "accuracy of the objective",
    "embedding_std": "relative std of the embeddings",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
STYLES = ("-", "--", ":", "-.")
COLOURS = 10


def plots_installed() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def has_curves(rows: Sequence[RowData]) -> bool:
    """Whether any run recorded its training."""
    return any(_points(run.lines, name) for row in rows for run in row.runs for name in PANELS)


def draw_curves(rows: Sequence[RowData]) -> bytes:
    """A panel for each metric that any run recorded, a line for each run; runs of a row share a colour."""
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
                    style = {"color": f"C{number % COLOURS}", "linestyle": STYLES[number // COLOURS % len(STYLES)]}
                    (line,) = axes.plot(*zip(*points), marker="." if len(points) < 20 else None, linewidth=1.2, **style)
                    handles.setdefault(row.name, line)
        axes.set_title(PANELS[name], fontsize="medium")
        axes.set_xlabel("step")
    names = [_plain(name) for name in handles]
    figure.legend(list(handles.values()), names, loc="outside lower center", ncols=columns, fontsize="small")
    return figure_png(figure)


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [
        (line["step"], line[name])
        for line in lines
        if isinstance(line.get(name), (int, float)) and not isinstance(line[name], bool)
    ]


def draw_sweep(sweep: Sweep, title: str) -> bytes:
    """Our curves; the papers' in the same panel where the protocol is the same, else in panels of their own."""
    from matplotlib.figure import Figure

    same, others = _published(sweep)
    figure = Figure(figsize=(5.2 * (1 + len(others)), 3.8), layout="constrained")
    panels = figure.subplots(1, 1 + len(others), squeeze=False)[0]
    quantity, unit = sweep.group.quantities[0], str(sweep.group.first.get("unit", ""))
    for curve in sweep.curves:
        _draw_curve(panels[0], curve.points, curve.label or "ours")
    for label, line in same.items():
        panels[0].plot(*zip(*line), "s--", color="0.5", label=_plain(label))
    panels[0].set_title(textwrap.fill(_plain(title), 60), fontsize="medium")
    panels[0].set_ylabel(_plain(f"{quantity} ({unit})" if unit else quantity))
    if len(sweep.curves) > 1 or sweep.curves[0].label or same:
        panels[0].legend(fontsize="small")
    for axes, (label, line) in zip(panels[1:], others.items()):
        axes.plot(*zip(*line), "s--", color="0.5")
        axes.set_title(_plain(label), fontsize="medium")
        axes.set_ylabel("top-1 (percent)")
    for axes in panels:
        axes.set_xlabel(sweep.kind.axis)
        axes.grid(alpha=0.3)
        if sweep.kind.log:
            axes.set_xscale("log")
    return figure_png(figure)


def _draw_curve(axes: Any, points: Sequence[tuple[float, Stats]], label: str) -> None:
    x = [x for x, _ in points]
    axes.errorbar(
        x,
        [stats.mean for _, stats in points],
        yerr=[stats.std or 0.0 for _, stats in points] if any(stats.std for _, stats in points) else None,
        marker="o",
        capsize=3,
        label=_plain(label),
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


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: no formula, and no name that it leaves out of legends."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def figure_png(figure: Figure) -> bytes:
    """The same bytes for the same figure: without the version of matplotlib."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in letters that the font has not
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
