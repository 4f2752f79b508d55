"""A sheet of images and text: layout, line breaks and drawing.

A row per anchor: the anchor, then the panels' positives. Panels that do not fit side by side go into bands, one below
the other, each of which repeats the anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from genrep.look.sheets import (
    GAP,
    GROUND,
    INK,
    LINE,
    MARGIN,
    PALE,
    TILE,
    clip,
    fit,
    font,
    text_width,
    tile_shape,
    wrap,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 2400  # pixels, at most
PANEL_GAP = 18  # between panels
RULE = (170, 170, 165)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Columns ``first`` to ``end`` (not included) of a panel, side by side."""

    panel: int
    first: int
    end: int
    left: int
    right: int
    heading: tuple[str, ...]  # lines


@dataclass(frozen=True, kw_only=True)
class Band:
    """Pieces side by side, under their headings."""

    top: int
    bottom_of_heading: int
    row_tops: tuple[int, ...]  # of the tiles; a line of text follows each row
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True)
class SheetLayout:
    """Places in pixels, from the upper left."""

    width: int
    height: int
    tile: tuple[int, int]  # height and width
    title: tuple[str, ...]  # lines
    bands: tuple[Band, ...]

    def place(self, panel: int, column: int, row: int) -> tuple[int, int]:
        """Top and left of a positive's tile."""
        for band in self.bands:
            for piece in band.pieces:
                if piece.panel == panel and piece.first <= column < piece.end:
                    return band.row_tops[row], piece.left + (column - piece.first) * (self.tile[1] + GAP)
        raise IndexError(f"panel {panel}, column {column}: not on the sheet")

    def anchor_places(self, row: int) -> list[tuple[int, int]]:
        """Top and left of an anchor's tile in every band."""
        return [(band.row_tops[row], MARGIN) for band in self.bands]


def make_layout(
    image_shape: tuple[int, int],
    headings: Sequence[Sequence[str]],
    num_columns: int,
    num_rows: int,
    *,
    title: str,
    most_columns: int | None = None,
) -> SheetLayout:
    """Lay a sheet out.

    Args:
        image_shape: height and width of the images.
        headings: of each panel, paragraph by paragraph.
        num_columns: of each panel.
        num_rows: anchors.
        title: shown above everything.
        most_columns: positives side by side; None = as many as fit without reducing small images, or large ones to less
            than ``TILE`` pixels.
    """
    slices = _slices(image_shape, len(headings), num_columns, most_columns)
    tile = _tile(image_shape, max(_fixed(row) for row in slices), max(_columns(row) for row in slices))
    bands, right = [], 0
    whole = max(_fixed(row) + _columns(row) * tile[1] for row in slices)
    lines = wrap(title, max(whole, 4 * TILE) - 2 * MARGIN)
    top = MARGIN + len(lines) * LINE + LINE // 2
    for row in slices:
        band = _band(row, headings, top, tile, num_rows)
        top = band.row_tops[-1] + tile[0] + LINE + MARGIN
        right = max(right, band.pieces[-1].right)
        bands.append(band)
    width = max(right, MARGIN + max(text_width(line) for line in lines)) + MARGIN
    return SheetLayout(width=width, height=top, tile=tile, title=tuple(lines), bands=tuple(bands))


Slice = tuple[int, int, int]  # panel, first column, end


def _slices(image_shape: tuple[int, int], panels: int, columns: int, most: int | None) -> list[list[Slice]]:
    """What each band shows, as evenly as can be."""
    if most is None:
        least = _preferred(image_shape) if max(image_shape) < TILE else min(TILE, image_shape[1])
        room = WIDTH - 2 * MARGIN - least
        alone = (room - PANEL_GAP + GAP) // (least + GAP)  # columns of one panel
        side_by_side = room // (PANEL_GAP + columns * (least + GAP) - GAP)  # panels
    else:
        alone, side_by_side = most, most // columns
    pieces: list[Slice] = []
    for panel in range(panels):
        count = -(-columns // alone)
        edges = [-(-columns * i // count) for i in range(count + 1)]
        pieces += [(panel, first, end) for first, end in pairwise(edges)]
    bands = -(-len(pieces) // max(1, side_by_side))
    size = -(-len(pieces) // bands)
    return [pieces[start : start + size] for start in range(0, len(pieces), size)]


def _columns(row: list[Slice]) -> int:
    """Tiles side by side, the anchor's among them."""
    return 1 + sum(end - first for _, first, end in row)


def _fixed(row: list[Slice]) -> int:
    """Pixels of a row that are no tiles: margins and gaps."""
    return 2 * MARGIN + len(row) * PANEL_GAP + (_columns(row) - 1 - len(row)) * GAP


def _preferred(image_shape: tuple[int, int]) -> int:
    """Width of a tile where there is room for it."""
    return tile_shape(*image_shape, largest=max(image_shape))[1]


def _tile(image_shape: tuple[int, int], fixed: int, columns: int) -> tuple[int, int]:
    """Height and width of a tile: the largest that fits; a whole multiple of the image, or less than it."""
    height, width = image_shape
    fits = min(_preferred(image_shape), (WIDTH - fixed) // columns)
    if fits >= width:
        return height * (fits // width), width * (fits // width)
    return max(1, round(height * fits / width)), max(1, fits)


def _band(row: list[Slice], headings: Sequence[Sequence[str]], top: int, tile: tuple[int, int], num_rows: int) -> Band:
    left, pieces = MARGIN + tile[1] + PANEL_GAP, []
    for panel, first, end in row:
        right = left + (end - first) * (tile[1] + GAP) - GAP
        lines = [line for paragraph in headings[panel] for line in wrap(paragraph, right - left)]
        pieces.append(Piece(panel=panel, first=first, end=end, left=left, right=right, heading=tuple(lines)))
        left = right + PANEL_GAP
    bottom = top + LINE * max(len(piece.heading) for piece in pieces) + 4
    row_tops = [bottom + 4 + i * (tile[0] + LINE + GAP) for i in range(num_rows)]
    return Band(top=top, bottom_of_heading=bottom, row_tops=tuple(row_tops), pieces=tuple(pieces))


class Sheet:
    """A sheet that tiles are put on, one after the other."""

    def __init__(self, layout: SheetLayout) -> None:
        self.layout = layout
        self.image = Image.new("RGB", (layout.width, layout.height), GROUND)
        self.draw = ImageDraw.Draw(self.image)
        self._lines(layout.title, MARGIN, MARGIN, INK)
        for band in layout.bands:
            anchor = (("anchor",), MARGIN, MARGIN + layout.tile[1])
            for heading, left, right in (anchor, *((piece.heading, piece.left, piece.right) for piece in band.pieces)):
                self._lines(heading, left, band.bottom_of_heading - 4 - len(heading) * LINE, INK)
                self.draw.line((left, band.bottom_of_heading - 1, right - 1, band.bottom_of_heading - 1), fill=RULE)

    def put(self, image: NDArray[np.uint8], label: str, places: Sequence[tuple[int, int]]) -> None:
        """An image ``(h, w, 3)`` as a tile at every ``(top, left)``, with its label below."""
        tile = fit(image, self.layout.tile)
        height, width = self.layout.tile
        label = clip(label, width)
        for top, left in places:
            self.image.paste(tile, (left, top))
            indent = (width - text_width(label)) // 2
            self.draw.text((left + indent, top + height + 1), label, fill=PALE, font=font())

    def pixels(self) -> NDArray[np.uint8]:
        """Shape: ``(H, W, 3)``."""
        return np.asarray(self.image)

    def _lines(self, lines: Sequence[str], left: int, top: int, fill: tuple[int, int, int]) -> None:
        for i, line in enumerate(lines):
            self.draw.text((left, top + i * LINE), line, fill=fill, font=font())
