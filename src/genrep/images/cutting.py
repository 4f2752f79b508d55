"""Parts of a picture, resized with Pillow: a given box, or the largest central part of some proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


def cut(picture: NDArray[np.uint8], top: int, left: int, height: int, width: int, size: int) -> NDArray[np.uint8]:
    """A box of a picture, resized to a square: bilinear, with antialiasing. Shape: ``(H, W, 3) -> (size, size, 3)``."""
    from PIL import Image

    part = picture[top : top + height, left : left + width]
    if part.shape[:2] == (size, size):
        return part
    # Cut out first: a resize from a box looks at the pixels around it.
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def fit(image: Image, shape: tuple[int, int], crop: str = "center") -> Image:
    """Crop the largest central part of the shape's proportions (``crop="center"``) and resize to ``shape`` (height, width).

    Bicubic, with antialiasing.
    """
    from PIL.Image import Resampling

    height, width = shape
    if image.size == (width, height):
        return image
    if crop == "center":  # cut out first, as above
        scale = min(image.width / width, image.height / height)
        inner_width, inner_height = max(int(scale * width), 1), max(int(scale * height), 1)
        left, top = (image.width - inner_width) // 2, (image.height - inner_height) // 2
        image = image.crop((left, top, left + inner_width, top + inner_height))
    return image.resize((width, height), Resampling.BICUBIC)
