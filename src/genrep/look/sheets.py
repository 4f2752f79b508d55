"""Sheets of pictures with words: tiles large enough to see, letters large enough to read. Needs Pillow."""

from __future__ import annotations

import io
import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genrep.files import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageFont

    Pixels = NDArray[np.uint8]

TILE = 96  # pixels of a tile's longer side, at least: smaller pictures are enlarged by a whole factor
LARGEST = 192  # and at most, where a sheet does not say otherwise
MARGIN = 14
GAP = 4  # between tiles that belong together
BLOCK_GAP = 14  # between blocks of tiles
SIZE = 13  # pixels of a letter
LINE = 17  # pixels from one line to the next
GROUND, INK, PALE = (250, 250, 247), (25, 25, 25), (90, 90, 90)
BREAKS = re.compile(r"(?<=[\s:,;+])(?![\s:,;+])|(?<=[-_/])(?=[a-z])")


@dataclass(frozen=True, kw_only=True)
class Band:
    """Rows of pictures, all of one shape, and the words around them."""

    rows: Sequence[Sequence[Pixels]]
    title: str = ""  # above
    names: Sequence[str] = ()  # of the columns, below them
    block: int = 1  # columns that belong together
    captions: Sequence[Sequence[str]] = ()  # of each row: below each of its blocks


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a band lies in its sheet, in pixels."""

    top: int
    tile: tuple[int, int]  # height and width
    title: Sequence[str]  # lines
    names: Sequence[Sequence[str]]  # lines of each
    lefts: Sequence[int]  # of the columns
    tops: Sequence[int]  # of the rows of tiles
    names_top: int
    bottom: int
    right: int


def draw_sheet(bands: Sequence[Band], *, largest: int = LARGEST) -> Pixels:
    """Bands below each other. Shape: ``(H, W, 3)``."""
    from PIL import Image, ImageDraw

    places = place(bands, largest=largest)
    image = Image.new("RGB", (max(one.right for one in places), places[-1].bottom), GROUND)
    draw = ImageDraw.Draw(image)

    def write(
        lines: Sequence[str], left: int, top: int, colour: tuple[int, int, int], width: int | None = None
    ) -> None:
        for number, line in enumerate(lines):
            indent = 0 if width is None else max((width - text_width(line)) // 2, 0)
            draw.text((left + indent, top + number * LINE), line, fill=colour, font=font())

    for band, at in zip(bands, places):
        height, width = at.tile
        write(at.title, MARGIN, at.top, INK)
        for row, (pictures, top) in enumerate(zip(band.rows, at.tops)):
            for left, picture in zip(at.lefts, pictures):
                image.paste(fit(picture, at.tile), (left, top))
            for block, caption in enumerate(band.captions[row] if band.captions else ()):
                first = at.lefts[block * band.block]
                room = at.lefts[block * band.block + band.block - 1] + width - first
                write([clip(caption, room)], first, top + height + 1, PALE, room)
        for left, lines in zip(at.lefts, at.names):
            write(lines, left, at.names_top, INK, width)
    return np.asarray(image)


def place(bands: Sequence[Band], *, largest: int = LARGEST) -> list[Placed]:
    """Where everything lies."""
    placed: list[Placed] = []
    top = MARGIN
    tiles = [tile_shape(*band.rows[0][0].shape[:2], largest=largest) for band in bands]
    counts = [max(len(row) for row in band.rows) for band in bands]
    lefts = [
        [
            MARGIN + k * (tile[1] + GAP) + k // band.block * (BLOCK_GAP - GAP if band.block > 1 else 0)
            for k in range(count)
        ]
        for band, tile, count in zip(bands, tiles, counts)
    ]
    right = max(max(left[-1] + tile[1] for left, tile in zip(lefts, tiles)), MARGIN + 4 * TILE) + MARGIN
    for band, tile, left in zip(bands, tiles, lefts):
        title = wrap(band.title, right - 2 * MARGIN)
        names = [wrap(name, tile[1]) for name in band.names]
        first = top + len(title) * LINE + (GAP if title else 0)
        pitch = tile[0] + (LINE + GAP if band.captions else 0) + GAP
        tops = [first + row * pitch for row in range(len(band.rows))]
        names_top = first + len(band.rows) * pitch - GAP + 1
        bottom = names_top + max((len(lines) for lines in names), default=0) * LINE + MARGIN
        placed.append(
            Placed(
                top=top,
                tile=tile,
                title=title,
                names=names,
                lefts=left,
                tops=tops,
                names_top=names_top,
                bottom=bottom,
                right=right,
            )
        )
        top = bottom
    return placed


def tile_shape(height: int, width: int, *, largest: int = LARGEST) -> tuple[int, int]:
    """Height and width of a picture's tile."""
    side = max(height, width)
    if side < TILE:
        factor = -(-TILE // side)
        return height * factor, width * factor
    if side > largest:
        return max(1, round(height * largest / side)), max(1, round(width * largest / side))
    return height, width


def fit(image: Pixels, tile: tuple[int, int]) -> Image.Image:
    """An image as large as a tile: each pixel repeated, or the image resized."""
    from PIL import Image

    (height, width), factor = image.shape[:2], tile[0] // image.shape[0]
    if factor and (height * factor, width * factor) == tile:
        return Image.fromarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
    return Image.fromarray(image).resize((tile[1], tile[0]), Image.Resampling.LANCZOS)


def centred(image: Pixels, height: int, width: int) -> Pixels:
    """A picture as it is, or one of another size made smaller, if it must be, and put in the middle of the ground."""
    from PIL import Image

    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((width, height))
    tile = np.empty((height, width, 3), dtype=np.uint8)
    tile[:] = GROUND
    top, left = (height - picture.height) // 2, (width - picture.width) // 2
    tile[top : top + picture.height, left : left + picture.width] = np.asarray(picture)
    return tile


def save_png(path: Path, image: Pixels) -> None:
    """Write an ``(H, W, 3)`` image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    write_atomic(path, buffer.getvalue())


@cache
def font(size: int = SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, of a size that is read without effort."""
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def text_width(text: str) -> int:
    """Pixels that a line takes."""
    return math.ceil(font().getlength(text))


def wrap(text: str, most: int) -> list[str]:
    """Lines no wider than ``most`` pixels, broken behind spaces and ``: , ; + - _ /``, and within a word that is too long."""
    lines, line = [], ""
    for piece in BREAKS.split(text):
        if line and text_width((line + piece).rstrip()) > most:
            lines.append(line.rstrip())
            line = ""
        line += piece
        while len(line) > 1 and text_width(line.rstrip()) > most:
            end = max(1, bisect_right(range(1, len(line)), most, key=lambda count: text_width(line[:count])))
            lines.append(line[:end])
            line = line[end:]
    return [*lines, line.rstrip()] if line.strip() else lines


def clip(text: str, most: int) -> str:
    """The text, its end left out if it is wider than ``most`` pixels."""
    if text_width(text) <= most:
        return text
    while text and text_width(text + "...") > most:
        text = text[:-1]
    return text.rstrip() + "..."
