"""The picture that a build ends with: the first pairs, as they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genrep.datasets_manifest.beton import Beton
from genrep.datasets_manifest.contents import read_field
from genrep.datasets_manifest.manifest import shard_name

from ..sheet import contact_sheet, save_png
from .folder import SHEET_NAME
from .plan import Plan

SHEET_WIDTH, SHEET_HEIGHT = 1600, 1200  # pixels, about
MAX_COLUMNS, MAX_ROWS = 8, 10


def write_contact_sheet(folder: Path, plan: Plan) -> Path:
    """Write the first pairs of the first shard, anchor and positives side by side, as a PNG; returns its path."""
    names = [row["name"] for row in plan.field_table() if row["kind"] == "image"]
    columns = min(max(SHEET_WIDTH // (len(names) * plan.width), 1), MAX_COLUMNS)
    rows = min(max(SHEET_HEIGHT // plan.height, 1), MAX_ROWS)
    shard = plan.shard(0)
    beton = Beton(folder / shard_name(0), plan.field_table(), shard.count, shard.first_index)
    count = min(columns * rows, shard.count)
    pairs = [np.concatenate([read_field(beton, i, name) for name in names], axis=1) for i in range(count)]
    scale = 2 if max(plan.height, plan.width) <= 64 else 1
    path = folder / SHEET_NAME
    save_png(path, contact_sheet(np.stack(pairs), min(columns, count), gap=3), scale=scale)
    return path
