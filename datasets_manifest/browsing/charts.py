"""Histograms of distances as SVG inside a page: no inline style, since the page's policy allows none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from genrep.untrusted import label

from .distances import Series

WIDTH, BASE, TOP = 340, 118, 8  # of the drawing, of the histogram's baseline and top
LEFT, RIGHT = 14, 326
STRIP = 158  # top of the strip that compares with unrelated anchors
BINS = 32
MAX_NAME = 60


def number(value: float) -> str:
    """Three digits that matter."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "?"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.2e}"
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{places}f}"


def histograms(series: Sequence[Series]) -> str:
    """A figure per series, all on one scale."""
    drawn = [one for one in series if one.values]
    if not drawn:
        return ""
    low, high = min(min(one.values) for one in drawn), max(max(one.values) for one in drawn)
    low, high, step = _ticks(low, high)
    return "\n".join(_figure(one, low, high, step) for one in drawn)


def _ticks(low: float, high: float) -> tuple[float, float, float]:
    """A range from tick to tick around the values, and the ticks' distance."""
    width = high - low or abs(high) or 1.0
    raw = width / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return max(first, 0.0), (last if last > first else first + step), step


def _figure(series: Series, low: float, high: float, step: float) -> str:
    values = np.asarray(series.values)
    counts, edges = np.histogram(values, bins=BINS, range=(low, high))
    p5, median, p95 = (float(value) for value in np.percentile(values, (5, 50, 95)))
    unrelated = float(np.median(series.unrelated)) if series.unrelated else None
    name = escape(label(series.name, MAX_NAME))
    told = f"median {number(median)}, 90\u00a0% from {number(p5)} to {number(p95)}"
    compared = ""
    if unrelated:
        compared = f"; {number(100 * median / unrelated)}\u00a0% of that between unrelated anchors"
    parts = [_bars(counts, edges), _axis(low, high, step)]
    if unrelated:
        parts.append(_strip(p5, median, p95, unrelated))
    height = 196 if unrelated else 140
    return (
        f'<figure class="chart">\n<figcaption><b><bdi>{name}</bdi></b> {told}{compared}</figcaption>\n'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Histogram of {len(values):,} distances, '
        f'{name}: {told}">\n' + "\n".join(parts) + "\n</svg>\n</figure>"
    )


def _bars(counts: np.ndarray, edges: np.ndarray) -> str:
    width, most = (RIGHT - LEFT) / len(counts), max(int(counts.max()), 1)
    bars = []
    for k, count in enumerate(counts.tolist()):
        if count:
            height = max((BASE - TOP) * count / most, 1)
            bars.append(
                f'<rect class="bar" x="{LEFT + k * width:.1f}" y="{BASE - height:.1f}" width="{max(width - 1, 1):.1f}" '
                f'height="{height:.1f}"><title>{number(edges[k])} to {number(edges[k + 1])}: {count:,}</title></rect>'
            )
    return "\n".join(bars)


def _axis(low: float, high: float, step: float) -> str:
    parts = [f'<path class="axis" d="M{LEFT} {BASE}H{RIGHT}"/>']
    for k in range(round((high - low) / step) + 1):
        x = LEFT + (RIGHT - LEFT) * k * step / (high - low)
        parts.append(f'<path class="axis" d="M{x:.1f} {BASE}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{BASE + 17}" text-anchor="middle">{number(low + k * step)}</text>')
    return "\n".join(parts)


def _strip(p5: float, median: float, p95: float, unrelated: float) -> str:
    """Where the distances lie between nothing and two anchors that have nothing to do with each other."""
    scale = (RIGHT - LEFT) / (1.04 * max(unrelated, p95))
    x5, x50, x95, there = (LEFT + scale * value for value in (p5, median, p95, unrelated))
    anchor = "end" if there > WIDTH / 2 else "start"
    return (
        f'<rect class="track" x="{LEFT}" y="{STRIP}" width="{RIGHT - LEFT}" height="8" rx="4"/>\n'
        f'<rect class="bar" x="{x5:.1f}" y="{STRIP}" width="{max(x95 - x5, 2):.1f}" height="8" rx="2"/>\n'
        f'<path class="median" d="M{x50:.1f} {STRIP - 3}v14"/>\n'
        f'<path class="other" d="M{there:.1f} {STRIP - 5}v18"/>\n'
        f'<text x="{LEFT}" y="{STRIP + 30}">0</text>\n'
        f'<text x="{there:.1f}" y="{STRIP + 30}" text-anchor="{anchor}">unrelated anchors {number(unrelated)}</text>'
    )
