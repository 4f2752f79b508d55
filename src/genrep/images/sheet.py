"""Contact sheets: many small pictures in one PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genrep.files import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contact_sheet(images: NDArray[np.uint8], columns: int, *, gap: int = 2) -> NDArray[np.uint8]:
    """Lay images out row by row on white. Shape: ``(N, H, W, 3) -> (rows (H + gap) + gap, columns (W + gap) + gap, 3)``."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def save_png(path: Path, image: NDArray[np.uint8], *, scale: int = 1) -> None:
    """Write an ``(H, W, 3)`` image as PNG, each pixel enlarged to ``scale x scale``."""
    from PIL import Image

    if scale > 1:
        image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    write_atomic(path, buffer.getvalue())
