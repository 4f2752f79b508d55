"""HL's Figure 3 as a page: what was measured, as a table and as its three panels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import DataError
from genrep.look.colours import Theme
from genrep.look.plots import draw, line_style, no_plots, plain, plots_installed

from ..report.page import Block, Heading, Paragraph, Picture, Table
from ..report.rows import read_object

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "report-timing.png"
NAMES = {
    "png": "PNG files",
    "ffcv": "FFCV",
    "ours": "this project's loader",
    "online": "generator",
    "ready": "step alone",
}
PANELS = {  # what is drawn: its title, and its column
    "device_seconds": ("device-seconds an epoch", "{:.1f}"),
    "co2_grams_per_s": ("CO2 (g/s)", "{:.4f}"),
    "co2_grams": ("CO2 of all epochs (g)", "{:.2f}"),
}
Sizes = Mapping[int, Mapping[str, Mapping[str, Any]]]  # by batch size and way


def timing_blocks(path: Path) -> tuple[list[Block], list[Picture]]:
    """Blocks of a page, and the pictures among them; nothing where the numbers were not written.

    Raises:
        DataError: the file is not what figure3 writes.
    """
    if not path.exists():
        return [], []
    content = read_object(path)
    try:
        sizes = {int(size): ways for size, ways in content["sizes"].items()}
        settings = dict(content["settings"])
        table, panels = _table(sizes), [name for name in PANELS if _has(sizes, name)]
        said = [Paragraph(_settings_text(settings, panels))]
        if not plots_installed():
            return [*said, table, Paragraph(no_plots())], []
        picture = Picture(
            name=PICTURE,
            plot=draw(lambda theme: _figure(sizes, panels, theme)),
            alt="HL's Figure 3: " + ", ".join(map(_title, panels)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: wanted what figure3 writes ({type(error).__name__}: {error})") from error
    return [*said, picture, Heading("Numbers"), table], [picture]


def _settings_text(settings: Mapping[str, Any], panels: list[str]) -> str:
    text = f"{settings['gen']}, {settings['devices']} x {settings['device']}, {settings['workers']} workers a file loader, "
    text += (
        f"an epoch of {settings['images']:,} pairs, medians of {settings['rounds']} turns of {settings['seconds']:g} s."
    )
    if "co2_grams" in panels:
        country = f"the electricity of {settings['country']}"
        return (
            f"{text} CO2 is codecarbon's estimate of the whole machine by {country}, for {settings['epochs']} epochs."
        )
    return f"{text} CO2 was not estimated: that requires codecarbon."


def _title(name: str) -> str:
    return PANELS[name][0]


def _has(sizes: Sizes, name: str) -> bool:
    return any(name in row for ways in sizes.values() for row in ways.values())


def _table(sizes: Sizes) -> Table:
    shown = [name for name in PANELS if _has(sizes, name)]
    head = ["", "batch", "images/s", *map(_title, shown), "x PNG files"]
    rows = [
        [
            *(NAMES.get(way, way), str(size), f"{_number(row['images_per_s']):,.0f}"),
            *(PANELS[name][1].format(_number(row[name])) for name in shown),
            f"{_number(row['times_png']):.2f}",
        ]
        for size, ways in sorted(sizes.items())
        for way, row in ways.items()
    ]
    return Table(head=head, rows=rows, right=[name != "" for name in head])


def _figure(sizes: Sizes, panels: list[str], theme: Theme) -> Figure:
    """A panel for each quantity, a line for each way, over the batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    ways = dict.fromkeys(way for rows in sizes.values() for way in rows)
    for axes, name in zip(every, panels):
        for number, way in enumerate(ways):
            points = [
                (size, _number(rows[way][name])) for size, rows in sorted(sizes.items()) if name in rows.get(way, {})
            ]
            look = line_style(theme, number, 1)
            axes.plot(*zip(*points), label=plain(NAMES.get(way, way)), **look)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
        axes.set_xlabel("batch size of a device")
        axes.set_title(_title(name))
        axes.set_ylim(bottom=0)
    every[0].legend()
    return figure


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
