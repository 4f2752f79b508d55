"""Pictures of walks: a grid of what each does to the same anchors, and the curves of its measured effect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genrep.images.sheet import contact_sheet, save_png
from genrep.seeding import derive

from ...pixels import to_uint8
from ..source import Source
from .alphas import ROWS, UNITS
from .measure import Curve, directions, is_gray
from .trainer import anchors, frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ANCHORS = 3
COLUMNS = 7  # strengths
CELL = 64  # pixels: smaller images are enlarged to this
LABEL = 16  # pixels, of a line of text
GAP = 2

PANEL, MARGIN, PER_ROW = 200, 46, 4
MEASURED, WANTED, AXIS = (200, 60, 40), (150, 150, 150), (210, 210, 210)


@torch.no_grad()
def save_sheet(path: Path, source: Source, walks: Tensor, seed: int) -> None:
    """Write a PNG: a band per transform, a row per anchor, a column per strength α from the weakest to the strongest.

    All bands show the same anchors, as G(z + α w).
    """
    seed, walks = derive("steer-sheet", seed), walks.detach()
    z, y = anchors(source, seed, np.arange(ANCHORS, dtype=np.int64))
    bands = []
    for name, rows in directions(is_gray(source, seed)).items():
        unit = UNITS[ROWS[rows.start]]
        steps = np.linspace(-unit.largest, unit.largest, COLUMNS).tolist()
        columns = []
        for step in steps:
            moved = frames(source, z + step * walks[rows].sum(dim=0), y)
            columns.append(to_uint8(moved, source.recipe.uint8))
        images = torch.stack(columns, dim=1).flatten(0, 1).cpu().numpy()  # anchor by anchor
        scale = max(CELL // min(images.shape[1:3]), 1)
        images = images.repeat(scale, axis=1).repeat(scale, axis=2)
        sheet = contact_sheet(images, COLUMNS, gap=GAP)
        heads = [f"{unit.say(step):+.3g}" if not unit.factor else f"x{unit.say(step):.2f}" for step in steps]
        bands += [_line([f"{name}: {unit.name}"], sheet.shape[1], sheet.shape[1])]
        bands += [_line(heads, images.shape[2] + GAP, sheet.shape[1]), sheet]
    save_png(path, np.concatenate(bands))


def _line(labels: Sequence[str], pitch: int, width: int) -> NDArray[np.uint8]:
    """A line of text, a label every ``pitch`` pixels. Shape: ``(LABEL, width, 3)``."""
    image = Image.new("RGB", (width, LABEL), "white")
    draw = ImageDraw.Draw(image)
    for i, label in enumerate(labels):
        draw.text((GAP + i * pitch, 2), label, fill="black")
    return np.asarray(image)


def save_curves(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Write a PNG with a panel per walk: measured effect over α (red), and that of the targets (gray).

    Factors are drawn on logarithmic axes.
    """
    rows = -(-len(curves) // PER_ROW)
    pitch_x, pitch_y = PANEL + MARGIN, PANEL + 3 * LABEL
    image = Image.new("RGB", (PER_ROW * pitch_x + MARGIN, rows * pitch_y + 2 * LABEL), "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 4), f"{title}   red: measured on generated images, gray: on the targets", fill="black")
    for i, curve in enumerate(curves):
        _panel(draw, MARGIN + i % PER_ROW * pitch_x, 3 * LABEL + i // PER_ROW * pitch_y, curve)
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
    draw.text((left, top - LABEL), f"{curve.name}{'' if curve.rises else ' (does not rise)'}", fill="black")
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
