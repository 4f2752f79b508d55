"""The picture of what a filter learned: the generated images that it likes least, and those that it likes most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from genrep.images.sheet import contact_sheet, save_png

from .data import Material
from .measure import HeldOut, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS, ROWS = 16, 4
CELL = 48  # pixels: smaller images are enlarged to this
LINE = 16  # pixels, of a line of text
MIN_WIDTH = 420  # pixels, for the text
BATCH = 16  # images that are made again at a time


def save_extremes(path: Path, material: Material, found: HeldOut) -> None:
    """Write a PNG: up to 64 held-out generated images of the lowest scores, worst first, and as many of the highest, best
    first.
    """
    ascending = np.argsort(found.generated, kind="stable")
    count = min(COLUMNS * ROWS, len(ascending) // 2)
    bands = []
    for name, numbers in (("lowest", ascending[:count]), ("highest", ascending[::-1][:count])):
        scores = sigmoid(found.generated[numbers])
        title = f"{name} {count} of {len(ascending)} scores (1 = real): {scores[0]:.3f} to {scores[-1]:.3f}"
        parts = [material.generated(numbers[i : i + BATCH], held_out=True) for i in range(0, count, BATCH)]
        images = np.concatenate([part.cpu().numpy() for part in parts])
        scale = max(-(-CELL // min(images.shape[1:3])), 1)
        sheet = contact_sheet(images.repeat(scale, axis=1).repeat(scale, axis=2), min(COLUMNS, count))
        if sheet.shape[1] < MIN_WIDTH:
            sheet = np.pad(sheet, ((0, 0), (0, MIN_WIDTH - sheet.shape[1]), (0, 0)), constant_values=255)
        bands += [_line(title, sheet.shape[1]), sheet]
    save_png(path, np.concatenate(bands))


def _line(text: str, width: int) -> NDArray[np.uint8]:
    """One line of text. Shape: ``(LINE, width, 3)``."""
    image = Image.new("RGB", (width, LINE), "white")
    ImageDraw.Draw(image).text((2, 2), text, fill="black")
    return np.asarray(image)
