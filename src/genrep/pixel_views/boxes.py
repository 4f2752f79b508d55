"""Which part of each image a view shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from . import PixelViews

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Box(TypedDict):
    """Where the crops are, in pixels. Shape of each: ``(N,)``."""

    top: Ints
    left: Ints
    height: Ints
    width: Ints


def random_boxes(
    tries: Floats, places: Floats, more_tries: Callable[[Ints], Floats], views: PixelViews, rows: Ints, columns: Ints
) -> Box:
    """The first of ten tries that fits into the image, else the largest central box of an allowed ratio.

    As torchvision's ``RandomResizedCrop.get_params``: area uniform in ``scale``, log of width / height uniform.

    Args:
        tries: Shape ``(blocks, 4, N)``: uniform numbers for two tries a block.
        places: Shape ``(2, N)``: uniform numbers for top and left.
        more_tries: Gives the numbers of the other tries for some of the images: few need them.
        rows, columns: Shape ``(N,)``: height and width of each image.
    """
    height, width, fits = _first_fit(tries, views, rows, columns)
    left_over = np.flatnonzero(~fits)
    if len(left_over):
        these = rows[left_over], columns[left_over]
        high, wide, fits_now = _first_fit(more_tries(left_over), views, *these)
        spare_height, spare_width = _largest_central_box(*these, views.ratio)
        height[left_over] = np.where(fits_now, high, spare_height)
        width[left_over] = np.where(fits_now, wide, spare_width)
        fits[left_over] = fits_now
    top, left = (places[0] * (rows - height + 1)).astype(np.int64), (places[1] * (columns - width + 1)).astype(np.int64)
    if not fits.all():
        top, left = np.where(fits, top, (rows - height) // 2), np.where(fits, left, (columns - width) // 2)
    return Box(top=top, left=left, height=height, width=width)


def _first_fit(tries: Floats, views: PixelViews, rows: Ints, columns: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Height and width of the first try that fits, and whether any does. Shape: ``(blocks, 4, N) -> (N,)`` each."""
    tries = tries.reshape(2 * len(tries), 2, tries.shape[2])
    scale, ratio = views.scale, views.ratio
    area = tries[:, 0] * (scale[1] - scale[0]) + scale[0]
    area *= rows * columns
    low, high = np.log(ratio[0]), np.log(ratio[1])
    root = np.exp((tries[:, 1] * (high - low) + low) / 2)  # of width / height
    side = np.sqrt(area)
    width, height = np.rint(side * root), np.rint(side / root)
    fits = (width > 0) & (width <= columns) & (height > 0) & (height <= rows)
    chosen = fits.argmax(axis=0), np.arange(tries.shape[2])
    return height[chosen].astype(np.int64), width[chosen].astype(np.int64), fits.any(axis=0)


def _largest_central_box(rows: Ints, columns: Ints, ratio: tuple[float, float]) -> tuple[Ints, Ints]:
    """Height and width of each image's largest part of an allowed ratio of width to height."""
    height = np.where(columns / rows < ratio[0], np.rint(columns / ratio[0]).astype(np.int64), rows)
    width = np.where(columns / rows > ratio[1], np.rint(rows * ratio[1]).astype(np.int64), columns)
    return height, width


def central_box(rows: Ints, columns: Ints, size: int | None = None) -> Box:
    """The central square of ``size`` pixels, or of the shorter side where the image is smaller (then it is enlarged).

    Without a size the largest central square. Shape of rows and columns: ``(N,)``.
    """
    side = np.minimum(rows, columns)
    side = side if size is None else np.minimum(side, size)
    return Box(top=(rows - side) // 2, left=(columns - side) // 2, height=side, width=side)
