"""A run's curves as one picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from genrep.files import write_atomic
from genrep.progress import note
from genrep.runs.metrics import METRICS_FILE, Line, read_lines

CURVES_FILE = "curves.png"
PANELS = (("loss",), ("lr",), ("embedding_std", "alignment", "uniformity", "accuracy"), ("knn_top1",))


def draw_curves(out: Path) -> None:
    """Draw metrics.jsonl as curves.png: a panel for the loss, the rate, what the embeddings do, and kNN if it was measured.

    Needs matplotlib; without it a line on stderr says so.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        note(
            f"matplotlib is not installed: no {CURVES_FILE}; the curves are in {METRICS_FILE}; pip install 'genrep[plots]'"
        )
        return
    lines = read_lines(out / METRICS_FILE)
    panels = [names for names in PANELS if any(name in line for line in lines for name in names)]
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for name in names:
            _draw(axes, name, lines)
        axes.set_xlabel("step")
        axes.set_title(names[0].replace("_", " ") if len(names) == 1 else "embeddings")
        if len(names) > 1:
            axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_atomic(out / CURVES_FILE, buffer.getvalue())


def _draw(axes: Any, name: str, lines: list[Line]) -> None:
    points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), (int, float))]
    if points:
        axes.plot(*zip(*points), label=name.replace("_", " "), marker="." if len(points) < 30 else None)
