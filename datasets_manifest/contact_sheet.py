"""The picture that a build ends with: the first pairs, as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genrep.sheet import contact_sheet, save_png

from .beton import Beton
from .contents import read_field
from .manifest import Shard

SHEET_NAME = "contact-sheet.png"
SHEET_WIDTH, SHEET_HEIGHT = 1600, 1200  # pixels, about
MAX_COLUMNS, MAX_ROWS = 8, 10
SMALL = 64  # pixels: images up to here are shown at twice their size


def write_contact_sheet(folder: Path, fields: list[dict[str, Any]], shard: Shard) -> Path:
    """Write the shard's first pairs, anchor and positives side by side, as a PNG; returns its path."""
    images = [field for field in fields if field["kind"] == "image"]
    height, width, _ = images[0]["shape"]
    columns = min(max(SHEET_WIDTH // (len(images) * width), 1), MAX_COLUMNS)
    rows = min(max(SHEET_HEIGHT // height, 1), MAX_ROWS)
    count = min(columns * rows, shard.count)
    beton = Beton(folder / shard.name, fields, shard.count, shard.first_index)
    pairs = [np.concatenate([read_field(beton, i, field["name"]) for field in images], axis=1) for i in range(count)]
    path = folder / SHEET_NAME
    save_png(
        path, contact_sheet(np.stack(pairs), min(columns, count), gap=3), scale=2 if max(height, width) <= SMALL else 1
    )
    return path
