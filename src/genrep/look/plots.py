"""The style of every plot. Needs matplotlib, which is imported only when something is drawn.

Lines differ in colour, dash and marker, so that a plot can be read without colours. The ground is painted, so that a picture
can be read on a page of any colour.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genrep.extras import install

from .colours import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MARKED = 12  # points of a line that are marked, where it has many


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot as PNG files."""

    light: bytes
    dark: bytes


def plots_installed() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def no_plots() -> str:
    """What is told where it is not."""
    return f"matplotlib is not installed: no plots; {install('plots')}"


def draw(make: Callable[[Theme], Figure]) -> Plot:
    """A plot on a light ground and on a dark one. ``make`` is called once for each."""
    return Plot(light=draw_as(LIGHT, make), dark=draw_as(DARK, make))


def draw_as(theme: Theme, make: Callable[[Theme], Figure]) -> bytes:
    """A plot in one theme, as PNG; the same bytes for the same figure."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # a user's own style does not change our files
        mpl.rcParams.update(style(theme))
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in letters that the font has not
        buffer = io.BytesIO()
        make(theme).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def style(theme: Theme) -> dict[str, Any]:
    """Settings of matplotlib."""
    return {
        "figure.facecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.quiet,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.labelsize": 10,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.rule,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "font.family": ["DejaVu Sans"],  # it comes with matplotlib, so it is everywhere
        "font.size": 10,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "errorbar.capsize": 3,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "legend.handlelength": 3.2,  # a whole dash
    }


def line_style(theme: Theme, number: int, points: int) -> dict[str, Any]:
    """How a plot's line of this number is drawn, of so many points: no two of 24 share a colour and a dash."""
    return {
        "color": theme.cycle[number % len(theme.cycle)],
        "linestyle": DASHES[(number + number // 12) % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markevery": max(1, points // MARKED),
    }


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: no formula, and no name that it leaves out of legends."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
