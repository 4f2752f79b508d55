"""Pictures of what was learned: a filter's extremes, walks and their curves, the strip of a navigator, bars of distances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genrep.images.sheet import contact_sheet, save_png
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


CELL = 64  # pixels: smaller images are enlarged to this
LINE = 16  # pixels, of a line of text
GAP = 2
WALK_ANCHORS, WALK_COLUMNS = 3, 7  # of the sheet of walks, with a strength per column
STRIP_ROWS, STRIP_COLUMNS = 8, 12  # number of anchors; most states of T
FILTER_COLUMNS, FILTER_ROWS, FILTER_CELL, FILTER_WIDTH = 16, 4, 48, 420  # the last two in pixels: least sides
BATCH = 16  # images per forward pass
PANEL, MARGIN, PER_ROW = 200, 46, 4  # of the picture of curves
MEASURED, WANTED, AXIS = (200, 60, 40), (150, 150, 150), (210, 210, 210)


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
        images = np.concatenate([part.cpu().numpy() for part in parts])
        scale = max(-(-FILTER_CELL // min(images.shape[1:3])), 1)
        sheet = contact_sheet(images.repeat(scale, axis=1).repeat(scale, axis=2), min(FILTER_COLUMNS, count))
        if sheet.shape[1] < FILTER_WIDTH:
            sheet = np.pad(sheet, ((0, 0), (0, FILTER_WIDTH - sheet.shape[1]), (0, 0)), constant_values=255)
        bands += [_words([title], sheet.shape[1], sheet.shape[1]), sheet]
    save_png(path, np.concatenate(bands))


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
        images = torch.stack(columns, dim=1).flatten(0, 1).cpu().numpy()  # anchor by anchor
        scale = max(CELL // min(images.shape[1:3]), 1)
        images = images.repeat(scale, axis=1).repeat(scale, axis=2)
        sheet = contact_sheet(images, WALK_COLUMNS, gap=GAP)
        heads = [f"{unit.say(step):+.3g}" if not unit.factor else f"x{unit.say(step):.2f}" for step in steps]
        bands += [_words([f"{name}: {unit.name}"], sheet.shape[1], sheet.shape[1])]
        bands += [_words(heads, images.shape[2] + GAP, sheet.shape[1]), sheet]
    save_png(path, np.concatenate(bands))


def _words(labels: Sequence[str], pitch: int, width: int) -> NDArray[np.uint8]:
    """A line of text, a label every ``pitch`` pixels. Shape: ``(LINE, width, 3)``."""
    image = Image.new("RGB", (width, LINE), "white")
    draw = ImageDraw.Draw(image)
    for i, label in enumerate(labels):
        draw.text((GAP + i * pitch, 2), label, fill="black")
    return np.asarray(image)


def save_curves(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Write a PNG with a panel per walk: measured effect over α (red), and that of the targets (gray).

    Factors are drawn on logarithmic axes.
    """
    rows = -(-len(curves) // PER_ROW)
    pitch_x, pitch_y = PANEL + MARGIN, PANEL + 3 * LINE
    image = Image.new("RGB", (PER_ROW * pitch_x + MARGIN, rows * pitch_y + 2 * LINE), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 4), f"{title}   red: measured on generated images, gray: on the targets", fill="black")
    for i, curve in enumerate(curves):
        _panel(draw, MARGIN + i % PER_ROW * pitch_x, 3 * LINE + i // PER_ROW * pitch_y, curve)
    save_png(path, np.asarray(image))


def _panel(draw: ImageDraw.ImageDraw, left: int, top: int, curve: Curve) -> None:
    factor = curve.name.startswith("zoom")
    scale = np.log if factor else np.asarray
    xs, effects, targets = (scale(np.array(values)) for values in (curve.alphas, curve.effects, curve.targets))
    low, high = min(effects.min(), targets.min()), max(effects.max(), targets.max())
    high = max(high, low + 1e-9)

    def place(values: NDArray[np.float64]) -> list[tuple[float, float]]:
        across = left + (xs - xs[0]) / (xs[-1] - xs[0]) * PANEL
        return list(zip(across.tolist(), (top + (high - values) / (high - low) * PANEL).tolist()))

    draw.rectangle((left, top, left + PANEL, top + PANEL), outline=AXIS)
    draw.text((left, top - LINE), f"{curve.name}{'' if curve.rises else ' (does not rise)'}", fill="black")
    for values, color in ((targets, WANTED), (effects, MEASURED)):
        points = place(values)
        draw.line(points, fill=color, width=2)
        for x, y in points:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
    undo = np.exp if factor else np.asarray
    for value, y in ((high, top), (low, top + PANEL - 10)):
        draw.text((left - MARGIN + 6, y), f"{float(undo(value)):.3g}", fill="black")
    draw.text((left, top + PANEL + 2), f"{curve.alphas[0]:.3g} to {curve.alphas[-1]:.3g}", fill="black")
    draw.text((left, top + PANEL + 14), curve.unit[:36], fill="black")


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
    images = torch.stack(columns, dim=1).flatten(0, 1).cpu().numpy()  # row by row
    scale = max(CELL // min(images.shape[1:3]), 1)
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    sheet = contact_sheet(images, len(columns), gap=GAP)
    save_png(path, np.concatenate([_words(labels, images.shape[2] + GAP, sheet.shape[1]), sheet]))


def evenly(items: Sequence[Path], most: int) -> list[Path]:
    """At most ``most`` of the items, evenly spaced, including the first and the last."""
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[i] for i in places]


def save_bars(path: Path, title: str, bars: Sequence[tuple[str, float, float]]) -> None:
    """Write a PNG of horizontal bars: ``(label, mean, standard deviation)``, the deviation drawn as a whisker."""
    left, width, row = 240, 420, 24
    image = Image.new("RGB", (left + width + 140, row * len(bars) + 2 * LINE), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 4), title, fill="black")
    longest = max((mean + std for _, mean, std in bars), default=0.0) or 1.0
    for i, (label, mean, std) in enumerate(bars):
        top = 2 * LINE + i * row - 4
        end = left + round(width * mean / longest)
        draw.text((8, top + 4), label[:38], fill="black")
        draw.rectangle((left, top + 2, end, top + row - 6), fill=(76, 120, 168))
        low, high = (left + round(width * max(mean + sign * std, 0) / longest) for sign in (-1, 1))
        middle = top + row // 2 - 2
        draw.line((low, middle, high, middle), fill="black", width=2)
        draw.text((high + 8, top + 4), f"{mean:.3f} +- {std:.3f}", fill="black")
    save_png(path, np.asarray(image))
