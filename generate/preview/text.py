"""Words on a sheet: their font, their width, where they break."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from functools import cache

from PIL import ImageFont

SIZE = 13  # pixels
LINE = 17  # pixels from one line to the next
BREAKS = re.compile(r"(?<=[\s:,;+])(?![\s:,;+])|(?<=[-_/])(?=[a-z])")


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, of a size that is read without effort."""
    return ImageFont.load_default(size=SIZE)


def width(text: str) -> int:
    """Pixels that a line takes."""
    return math.ceil(font().getlength(text))


def wrap(text: str, most: int) -> list[str]:
    """Lines no wider than ``most`` pixels, broken behind spaces and ``: , ; + - _ /``, and within a word that is too long."""
    lines, line = [], ""
    for piece in BREAKS.split(text):
        if line and width((line + piece).rstrip()) > most:
            lines.append(line.rstrip())
            line = ""
        line += piece
        while len(line) > 1 and width(line.rstrip()) > most:
            end = max(1, bisect_right(range(1, len(line)), most, key=lambda count: width(line[:count])))
            lines.append(line[:end])
            line = line[end:]
    return [*lines, line.rstrip()] if line.strip() else lines


def clip(text: str, most: int) -> str:
    """The text, its end left out if it is wider than ``most`` pixels."""
    if width(text) <= most:
        return text
    while text and width(text + "...") > most:
        text = text[:-1]
    return text.rstrip() + "..."
