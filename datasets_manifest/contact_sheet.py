"""The picture that a build ends with: the first pairs, as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.images.sheet import contact_sheet, save_png

from .beton import Beton
from .contents import read_field
from .layout import largest_shape, varies
from .manifest import Shard

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHEET_NAME = "contact-sheet.png"
SHEET_WIDTH, SHEET_HEIGHT = 1600, 1200  # pixels, about
MAX_COLUMNS, MAX_ROWS = 8, 10
VARYING_TILE = 192  # pixels of the square that a picture is shown in where each has a size of its own
SMALL = 64  # pixels: images up to here are shown at twice their size


def write_contact_sheet(folder: Path, fields: list[dict[str, Any]], shard: Shard) -> Path:
    """Write the shard's first pairs, anchor and positives side by side, as a PNG; returns its path."""
    images = [field for field in fields if field["kind"] == "image"]
    height, width, _ = largest_shape(images[0])
    if varies(images[0]):
        height, width = min(height, VARYING_TILE), min(width, VARYING_TILE)
    columns = min(max(SHEET_WIDTH // (len(images) * width), 1), MAX_COLUMNS)
    rows = min(max(SHEET_HEIGHT // height, 1), MAX_ROWS)
    count = min(columns * rows, shard.count)
    beton = Beton(folder / shard.name, fields, shard.count, shard.first_index)
    tiles = [[_tile(read_field(beton, i, field["name"]), height, width) for field in images] for i in range(count)]
    pairs = [np.concatenate(row, axis=1) for row in tiles]
    path = folder / SHEET_NAME
    save_png(
        path, contact_sheet(np.stack(pairs), min(columns, count), gap=3), scale=2 if max(height, width) <= SMALL else 1
    )
    return path


def _tile(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture as it is; one of another size made smaller, if it must be, and centred on white."""
    from PIL import Image

    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((width, height))
    tile = np.full((height, width, 3), 255, dtype=np.uint8)
    top, left = (height - picture.height) // 2, (width - picture.width) // 2
    tile[top : top + picture.height, left : left + picture.width] = np.asarray(picture)
    return tile
