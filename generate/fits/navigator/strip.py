"""Pictures with words on them: the strip of positives over training, and bars with their spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from genrep.images.sheet import contact_sheet, save_png
from genrep.seeding import derive

from ...pixels import to_uint8
from ...views.navigator_network import Walk
from ..source import Source
from .scope import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROWS = 8  # anchors
COLUMNS = 12  # states of T, at most
CELL = 64  # pixels: smaller images are enlarged to this
LINE = 16  # pixels, of a line of text
GAP = 2


@torch.no_grad()
def save_strip(path: Path, source: Source, scope: Scope, walks: Sequence[tuple[str, Walk]], seed: int) -> None:
    """Write a PNG: a row per anchor; columns are the anchor and its positive under each of the named states of T."""
    anchors = source.anchors(derive("navigator-strip", seed), np.arange(ROWS, dtype=np.int64))
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
    save_png(path, np.concatenate([_heading(labels, images.shape[2] + GAP, sheet.shape[1]), sheet]))


def _heading(labels: Sequence[str], pitch: int, width: int) -> NDArray[np.uint8]:
    """One line of text over columns. Shape: ``(LINE, width, 3)``."""
    image = Image.new("RGB", (width, LINE), "white")
    draw = ImageDraw.Draw(image)
    for i, label in enumerate(labels):
        draw.text((GAP + i * pitch, 2), label, fill="black")
    return np.asarray(image)


def evenly(items: Sequence[Path], most: int) -> list[Path]:
    """At most ``most`` of the items, the first and the last among them."""
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
