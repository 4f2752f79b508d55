"""Pictures of what was learned: a filter's extremes, walks and their curves, the strip of a navigator, bars of distances."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genrep.look.colours import LIGHT
from genrep.look.sheets import GROUND, INK, PALE, TILE, Band, clip, draw_sheet, font, save_png
from genrep.seeding import derive

from ..pixels import to_uint8
from ..views.navigators import Walk
from .filtering_data import HeldOut, Material, sigmoid
from .frozen import FrozenGenerator
from .navigator_scope import Scope
from .steering_measure import Curve, directions, is_gray
from .steering_targets import ROWS, UNITS, anchors, frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


LINE = 19  # pixels, of a line of text in curves and bars
WALK_ANCHORS, WALK_COLUMNS = 3, 7  # of the sheet of walks: a column is a strength
STRIP_ROWS, STRIP_COLUMNS = 8, 12  # anchors; states of T, at most
FILTER_COLUMNS, FILTER_ROWS = 8, 8
FOREGROUND_COLUMNS = 6  # images in a row of the sheet
BATCH = 16  # images that are made again at a time
PANEL, MARGIN, PER_ROW = 220, 64, 4  # of curves
MEASURED, WANTED, AXIS = LIGHT.cycle[0], LIGHT.cycle[1], LIGHT.quiet


def save_extremes(path: Path, material: Material, found: HeldOut) -> None:
    """Write a PNG: up to 64 held-out generated images of the lowest scores, worst first, and as many of the highest, best
    first.
    """
    ascending = np.argsort(found.generated, kind="stable")
    count = min(FILTER_COLUMNS * FILTER_ROWS, len(ascending) // 2)
    bands = []
    for name, numbers in (("lowest", ascending[:count]), ("highest", ascending[::-1][:count])):
        scores = sigmoid(found.generated[numbers])
        title = f"{name} {count} of {len(ascending)} scores (1 = real): {scores[0]:.3f} to {scores[-1]:.3f}"
        parts = [material.generated(numbers[i : i + BATCH], held_out=True) for i in range(0, count, BATCH)]
        images = list(np.concatenate([part.cpu().numpy() for part in parts]))
        rows = [images[i : i + FILTER_COLUMNS] for i in range(0, count, FILTER_COLUMNS)]
        bands.append(Band(rows=rows, title=title))
    save_png(path, draw_sheet(bands, largest=TILE))


def save_foregrounds(
    path: Path, shown: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_], float]], title: str
) -> None:
    """Write a PNG: images, each beside itself with its background darkened, and the ratio of foreground below them."""
    tiles, captions = [], []
    for image, above, ratio in shown:
        picture = Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BICUBIC)
        mask = Image.fromarray(above.astype(np.uint8)).resize((TILE, TILE), Image.Resampling.NEAREST)
        pixels = np.asarray(picture)
        tiles += [pixels, np.where(np.asarray(mask)[..., None] > 0, pixels, pixels // 4)]
        captions.append(f"{ratio:.2f}")
    wide = 2 * FOREGROUND_COLUMNS
    rows = [tiles[i : i + wide] for i in range(0, len(tiles), wide)]
    below = [captions[i : i + FOREGROUND_COLUMNS] for i in range(0, len(captions), FOREGROUND_COLUMNS)]
    save_png(path, draw_sheet([Band(rows=rows, title=title, block=2, captions=below)]))


@torch.no_grad()
def save_sheet(path: Path, source: FrozenGenerator, walks: Tensor, seed: int) -> None:
    """Write a PNG: a band per transform, a row per anchor, a column per strength α from the weakest to the strongest.

    All bands show the same anchors, as G(z + α w).
    """
    seed, walks = derive("steer-sheet", seed), walks.detach()
    z, y = anchors(source, seed, np.arange(WALK_ANCHORS, dtype=np.int64))
    bands = []
    for name, rows in directions(is_gray(source, seed)).items():
        unit = UNITS[ROWS[rows.start]]
        steps = np.linspace(-unit.largest, unit.largest, WALK_COLUMNS).tolist()
        columns = []
        for step in steps:
            moved = frames(source, z + step * walks[rows].sum(dim=0), y)
            columns.append(to_uint8(moved, source.recipe.uint8))
        heads = [f"{unit.say(step):+.3g}" if not unit.factor else f"x{unit.say(step):.2f}" for step in steps]
        bands.append(Band(rows=_rows(columns), title=f"{name}: {unit.name}", names=heads))
    save_png(path, draw_sheet(bands))


def _rows(columns: Sequence[Tensor]) -> list[list[NDArray[np.uint8]]]:
    """Images of columns, row by row."""
    return [list(row) for row in torch.stack(list(columns), dim=1).cpu().numpy()]


def save_curves(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Write a PNG with a panel per walk: measured effect over α (dots, solid), and that of the targets (squares, dashed).

    Factors are drawn on logarithmic axes.
    """
    rows = -(-len(curves) // PER_ROW)
    pitch_x, pitch_y = PANEL + MARGIN, PANEL + 4 * LINE
    image = Image.new("RGB", (PER_ROW * pitch_x + MARGIN, rows * pitch_y + 3 * LINE), GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((14, 10), title, fill=INK, font=font())
    left = 14
    for colour, words in ((MEASURED, "measured on generated images"), (WANTED, "on the targets")):
        _line(draw, [(left, 40), (left + 16, 40), (left + 32, 40)], colour)
        draw.text((left + 42, 32), words, fill=INK, font=font())
        left += 270
    for i, curve in enumerate(curves):
        _panel(draw, MARGIN + i % PER_ROW * pitch_x, 4 * LINE + i // PER_ROW * pitch_y, curve)
    save_png(path, np.asarray(image))


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str) -> None:
    """Points and what joins them; the two colours differ in dash and marker too."""
    for (x0, y0), (x1, y1) in pairwise(points):
        pieces = [(0.0, 1.0)] if colour == MEASURED else [(0.0, 0.35), (0.65, 1.0)]
        for start, end in pieces:
            ends = [(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part) for part in (start, end)]
            draw.line(ends, fill=colour, width=3)
    shape = draw.ellipse if colour == MEASURED else draw.rectangle
    for x, y in points:
        shape((x - 3, y - 3, x + 3, y + 3), fill=colour)


def _panel(draw: ImageDraw.ImageDraw, left: int, top: int, curve: Curve) -> None:
    factor = curve.name.startswith("zoom")
    scale = np.log if factor else np.asarray
    xs, effects, targets = (scale(np.array(values)) for values in (curve.alphas, curve.effects, curve.targets))
    low, high = min(effects.min(), targets.min()), max(effects.max(), targets.max())
    high = max(high, low + 1e-9)

    def place(values: NDArray[np.float64]) -> list[tuple[float, float]]:
        across = left + (xs - xs[0]) / (xs[-1] - xs[0]) * PANEL
        return list(zip(across.tolist(), (top + (high - values) / (high - low) * PANEL).tolist()))

    draw.line((left, top, left, top + PANEL, left + PANEL, top + PANEL), fill=AXIS)
    heading = f"{curve.name}{'' if curve.rises else ' (does not rise)'}"
    draw.text((left, top - LINE - 4), clip(heading, PANEL + MARGIN - 8), fill=INK, font=font())
    for values, colour in ((targets, WANTED), (effects, MEASURED)):
        _line(draw, place(values), colour)
    undo = np.exp if factor else np.asarray
    for value, y in ((high, top - 4), (low, top + PANEL - 14)):
        draw.text((left - 6, y), f"{float(undo(value)):.3g}", fill=PALE, font=font(), anchor="ra")
    draw.text((left, top + PANEL + 4), f"{curve.alphas[0]:.3g}", fill=PALE, font=font())
    draw.text((left + PANEL, top + PANEL + 4), f"{curve.alphas[-1]:.3g}", fill=PALE, font=font(), anchor="ra")
    draw.text((left, top + PANEL + 4 + LINE), clip(curve.unit, PANEL + MARGIN - 8), fill=PALE, font=font())


@torch.no_grad()
def save_strip(path: Path, source: FrozenGenerator, scope: Scope, walks: Sequence[tuple[str, Walk]], seed: int) -> None:
    """Write a PNG: a row per anchor; columns are the anchor and its positive under each of the named states of T."""
    anchors = source.anchors(derive("navigator-strip", seed), np.arange(STRIP_ROWS, dtype=np.int64))
    recipe = source.recipe
    columns = [to_uint8(source.images(anchors), recipe.uint8, recipe.crop, recipe.resize)]
    labels = ["anchor"]
    for name, walk in walks:
        shift = walk.to(source.device)(scope.part(anchors.z))
        positives = scope.positives(source, anchors, shift)
        columns.append(to_uint8(positives, recipe.uint8, recipe.crop, recipe.resize))
        labels.append(name)
    save_png(path, draw_sheet([Band(rows=_rows(columns), names=labels)]))


def evenly(items: Sequence[Path], most: int) -> list[Path]:
    """At most ``most`` of the items, evenly spaced, including the first and the last."""
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[i] for i in places]


def save_bars(path: Path, title: str, bars: Sequence[tuple[str, float, float]]) -> None:
    """Write a PNG of horizontal bars: ``(label, mean, standard deviation)``, the deviation drawn as a whisker."""
    left, width, row = 280, 420, 28
    image = Image.new("RGB", (left + width + 160, row * len(bars) + 3 * LINE), GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((14, 10), title, fill=INK, font=font())
    longest = max((mean + std for _, mean, std in bars), default=0.0) or 1.0
    for i, (label, mean, std) in enumerate(bars):
        top = 2 * LINE + i * row
        middle = top + row // 2
        end = left + round(width * mean / longest)
        draw.text((14, middle), clip(label, left - 24), fill=INK, font=font(), anchor="lm")
        draw.rectangle((left, top + 4, end, top + row - 4), fill=MEASURED)
        low, high = (left + round(width * max(mean + sign * std, 0) / longest) for sign in (-1, 1))
        draw.line((low, middle, high, middle), fill=INK, width=2)
        draw.text((max(high, end) + 8, middle), f"{mean:.3f} ± {std:.3f}", fill=INK, font=font(), anchor="lm")
    save_png(path, np.asarray(image))
