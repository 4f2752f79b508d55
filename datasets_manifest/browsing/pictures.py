"""Many small pictures as a few files that a page holds within itself, made smaller until they fit.

Pictures of few pixels keep every value; larger ones are WebP (JPEG where Pillow has none) at a size that the page can afford.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

SMALL = 64  # pixels: what has no longer side is shown as it is, pixel by pixel
LEAST = 48  # pixels of the longer side that a picture is never reduced below
BLOCK = 16  # pixels of a lossy coder's blocks: no block holds parts of two pictures
SHEET_SIDE = 2048  # pixels of a file's sides, about: a browser keeps it decoded
SHEET_GROUPS = 60
QUALITY = 82
KEPT_BYTES = 256 << 20  # of all pictures in memory before they are encoded
FEW = 24  # groups whose size is tried first


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """Pictures laid out in files, ``cell`` pixels apart: a group a pair, ``columns`` groups in a row, ``rows`` rows."""

    files: list[str]  # data: addresses
    cell: tuple[int, int]  # width, height
    columns: int
    rows: int
    sizes: list[list[tuple[int, int]]]  # width and height of each group's pictures
    side: int  # the longer side of the largest picture
    exact: bool  # every value of every pixel as it was read
    bytes: int  # of all addresses together


def largest_kept(pictures: int, longest: int) -> int:
    """The longer side at which so many pictures are kept in memory until it is known how small they must be."""
    side = math.isqrt(KEPT_BYTES // (3 * max(pictures, 1)))
    return max(min(longest, side), min(longest, LEAST))


def reduced(image: Image, side: int) -> Image:
    """The picture with a longer side of at most ``side`` pixels."""
    from PIL import Image as Pictures

    height, width, _ = image.shape
    if max(height, width) <= side:
        return image
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    made: Image = np.asarray(Pictures.fromarray(image).resize(size, Pictures.Resampling.LANCZOS, reducing_gap=3.0))
    return made


def fitted(groups: Sequence[Sequence[Image]], budget: int) -> Sheets | None:
    """Sheets of at most ``budget`` bytes, with the largest pictures that go in; None where even the smallest do not."""
    side = max(max(image.shape[:2]) for group in groups for image in group)
    if side <= SMALL:
        made = _sheets(groups, side, exact=True)
        if made.bytes <= budget:
            return made
    few = groups[:: -(-len(groups) // FEW)]
    side = _affordable(few, budget * len(few) // len(groups), side)
    while True:
        made = _sheets(groups, side, exact=False)
        if made.bytes <= budget:
            return made
        if side <= LEAST:
            return None
        side = max(side - BLOCK, LEAST)


def _affordable(few: Sequence[Sequence[Image]], budget: int, side: int) -> int:
    """The largest side, whole or so many of the coder's blocks, at which some of the pictures take their part of the budget."""
    if side <= LEAST or _sheets(few, side, exact=False).bytes <= budget:
        return side
    low, high = LEAST // BLOCK, -(-side // BLOCK)  # fits, or must; does not
    while high - low > 1:
        middle = (low + high) // 2
        fits = _sheets(few, middle * BLOCK, exact=False).bytes <= budget
        low, high = (middle, high) if fits else (low, middle)
    return low * BLOCK


def _sheets(groups: Sequence[Sequence[Image]], side: int, *, exact: bool) -> Sheets:
    small = [[reduced(image, side) for image in group] for group in groups]
    block = 1 if exact else BLOCK
    height, width = (-(-max(image.shape[k] for group in small for image in group) // block) * block for k in (0, 1))
    images = max(len(group) for group in small)
    columns = max(SHEET_SIDE // (width * images), 1)
    rows = max(min(SHEET_SIDE // height, -(-SHEET_GROUPS // columns)), 1)
    per_file = columns * rows
    files = []
    for first in range(0, len(small), per_file):
        part = small[first : first + per_file]
        across = min(columns, len(part)) * images
        sheet = np.zeros((-(-len(part) // columns) * height, across * width, 3), np.uint8)
        for k, group in enumerate(part):
            top = k // columns * height
            for j, image in enumerate(group):
                left = (k % columns * images + j) * width
                margins = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
                sheet[top : top + height, left : left + width] = np.pad(image, margins, mode="edge")
        files.append(_address(sheet, exact=exact))
    return Sheets(
        files=files,
        cell=(width, height),
        columns=columns,
        rows=rows,
        sizes=[[(image.shape[1], image.shape[0]) for image in group] for group in small],
        side=max(max(image.shape[:2]) for group in small for image in group),
        exact=exact,
        bytes=sum(map(len, files)),
    )


def _address(sheet: Image, *, exact: bool) -> str:
    """A picture as a data: address."""
    from PIL import Image as Pictures
    from PIL import features

    webp = features.check("webp")
    form = "webp" if webp else "png" if exact else "jpeg"
    how: dict[str, Any] = {"lossless": exact, "quality": 80 if exact else QUALITY, "method": 4 if exact else 2}
    if not webp:
        how = {"optimize": True} if exact else {"quality": QUALITY}
    buffer = io.BytesIO()
    Pictures.fromarray(sheet).save(buffer, format=form, **how)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"
