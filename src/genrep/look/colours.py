"""Colours of plots: a light theme and a dark one.

Both cycles follow Okabe and Ito's hues. Their values were moved until any two colours of a cycle differ by at least 25 in
CIELAB, also as people without one kind of cone see them, and until each has a contrast of at least 3 against its ground.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of a plot on one ground, as ``#rrggbb``."""

    name: str
    ground: str
    ink: str  # words that matter
    quiet: str  # words and axes that do not; and what others measured
    rule: str  # lines of a grid
    cycle: tuple[str, ...]


LIGHT = Theme(
    name="light",
    ground="#ffffff",
    ink="#16191d",
    quiet="#57606b",
    rule="#dde1e6",
    cycle=("#005fb6", "#e67205", "#14a668", "#9987a0", "#8e541c", "#16191d"),
)
DARK = Theme(
    name="dark",
    ground="#171b20",
    ink="#e8ebee",
    quiet="#a2abb6",
    rule="#2c333b",
    cycle=("#3ecbff", "#c0790a", "#00844d", "#997299", "#ffcd23", "#e8ebee"),
)
THEMES = (LIGHT, DARK)
