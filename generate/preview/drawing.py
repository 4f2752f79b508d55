"""The sheet itself: tiles on a light ground, words over and under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from . import text
from .layout import MARGIN, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUND, INK, PALE, RULE = (250, 250, 247), (25, 25, 25), (90, 90, 90), (170, 170, 165)


class Sheet:
    """A sheet that tiles are put on, one after the other."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.image = Image.new("RGB", (layout.width, layout.height), GROUND)
        self.draw = ImageDraw.Draw(self.image)
        self._lines(layout.title, MARGIN, MARGIN, INK)
        for band in layout.bands:
            anchor = (("anchor",), MARGIN, MARGIN + layout.tile[1])
            for heading, left, right in (anchor, *((piece.heading, piece.left, piece.right) for piece in band.pieces)):
                self._lines(heading, left, band.bottom_of_heading - 4 - len(heading) * text.LINE, INK)
                self.draw.line((left, band.bottom_of_heading - 1, right - 1, band.bottom_of_heading - 1), fill=RULE)

    def put(self, image: NDArray[np.uint8], label: str, places: Sequence[tuple[int, int]]) -> None:
        """An image ``(h, w, 3)`` as a tile at every ``(top, left)``, with its label below."""
        tile = fit(image, self.layout.tile)
        height, width = self.layout.tile
        label = text.clip(label, width)
        for top, left in places:
            self.image.paste(tile, (left, top))
            indent = (width - text.width(label)) // 2
            self.draw.text((left + indent, top + height + 1), label, fill=PALE, font=text.font())

    def pixels(self) -> NDArray[np.uint8]:
        """Shape: ``(H, W, 3)``."""
        return np.asarray(self.image)

    def _lines(self, lines: Sequence[str], left: int, top: int, fill: tuple[int, int, int]) -> None:
        for i, line in enumerate(lines):
            self.draw.text((left, top + i * text.LINE), line, fill=fill, font=text.font())


def fit(image: NDArray[np.uint8], tile: tuple[int, int]) -> Image.Image:
    """An image as large as a tile: each pixel repeated, or the image reduced."""
    (height, width), factor = image.shape[:2], tile[0] // image.shape[0]
    if factor and (height * factor, width * factor) == tile:
        return Image.fromarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
    return Image.fromarray(image).resize((tile[1], tile[0]), Image.Resampling.LANCZOS)
