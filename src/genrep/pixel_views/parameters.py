"""Drawing the parameters of pixel views, for whole batches, as torchvision's transforms would draw them one by one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import derive

from . import PixelViews
from .streams import uniforms

CROP_TRIES = 10  # as torchvision's RandomResizedCrop
COUNTERS_PER_VIEW = 64
# Counters of a view's stream: 2 per try of the crop, then these.
TOP, LEFT, FLIP, JITTER, BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAYSCALE = range(
    2 * CROP_TRIES, 2 * CROP_TRIES + 10
)
# The numbers of the colour operations in ``order``, as in torchvision's ColorJitter.
OP_BRIGHTNESS, OP_CONTRAST, OP_SATURATION, OP_HUE = range(4)
ORDERS = np.array(list(permutations(range(4))), dtype=np.int64)  # (24, 4)


@dataclass(frozen=True, kw_only=True)
class ViewParameters:
    """What happens to each of N images."""

    top: NDArray[np.int64]  # (N,) pixels
    left: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    flip: NDArray[np.bool_]
    jitter: NDArray[np.bool_]  # where False, the next five do not matter
    brightness: NDArray[np.float64]  # factors
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    hue: NDArray[np.float64]  # turns
    order: NDArray[np.int64]  # (N, 4): the operation (OP_…) done first, second, third, fourth
    grayscale: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.top)

    def take(self, rows: NDArray[np.int64]) -> ViewParameters:
        """The parameters of some of the images, in the order of ``rows``."""
        return ViewParameters(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw(
    views: PixelViews,
    *,
    seed: int,
    epoch: int,
    index: NDArray[np.int64],
    view: NDArray[np.int64],
    image_shape: tuple[int, int],
    size: int,
) -> ViewParameters:
    """Draw the views of N images.

    Args:
        index: Shape ``(N,)``: the samples' numbers in their dataset.
        view: Shape ``(N,)``: 0 for a pair's anchor, 1 for its positive.
        image_shape: height and width of the images.
        size: side of the output, which the central crop needs.
    """
    counters = view[:, None] * COUNTERS_PER_VIEW + np.arange(GRAYSCALE + 1)
    u = uniforms(derive("pixel-views", seed, epoch), index, counters)
    if views.random_crop:
        top, left, height, width = random_crops(u, views.scale, views.ratio, image_shape)
    else:
        top, left, height, width = central_crops(len(index), image_shape, size)
    return ViewParameters(
        top=top,
        left=left,
        height=height,
        width=width,
        flip=u[:, FLIP] < views.flip,
        jitter=u[:, JITTER] < views.jitter,
        brightness=1 + views.brightness * (2 * u[:, BRIGHTNESS] - 1),
        contrast=1 + views.contrast * (2 * u[:, CONTRAST] - 1),
        saturation=1 + views.saturation * (2 * u[:, SATURATION] - 1),
        hue=views.hue * (2 * u[:, HUE] - 1),
        order=ORDERS[(u[:, ORDER] * len(ORDERS)).astype(np.int64)],
        grayscale=u[:, GRAYSCALE] < views.grayscale,
    )


Box = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # top, left, height, width


def random_crops(
    u: NDArray[np.float64], scale: tuple[float, float], ratio: tuple[float, float], shape: tuple[int, int]
) -> Box:
    """The first of ten tries that fits into the image, else the largest central box of an allowed ratio.

    As torchvision's ``RandomResizedCrop.get_params``: area uniform in ``scale``, log of width / height uniform.
    """
    rows, columns = shape
    tries = u[:, : 2 * CROP_TRIES].reshape(len(u), CROP_TRIES, 2)
    area = rows * columns * (scale[0] + (scale[1] - scale[0]) * tries[..., 0])
    low, high = np.log(ratio[0]), np.log(ratio[1])
    aspect = np.exp(low + (high - low) * tries[..., 1])
    width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (width > 0) & (width <= columns) & (height > 0) & (height <= rows)
    chosen = np.arange(len(u)), fits.argmax(axis=1)
    some = fits.any(axis=1)
    spare_height, spare_width = _largest_central_box(shape, ratio)
    height = np.where(some, height[chosen], spare_height)
    width = np.where(some, width[chosen], spare_width)
    top = np.where(some, (u[:, TOP] * (rows - height + 1)).astype(np.int64), (rows - height) // 2)
    left = np.where(some, (u[:, LEFT] * (columns - width + 1)).astype(np.int64), (columns - width) // 2)
    return top, left, height, width


def _largest_central_box(shape: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    rows, columns = shape
    if columns / rows < ratio[0]:
        return round(columns / ratio[0]), columns
    if columns / rows > ratio[1]:
        return rows, round(rows * ratio[1])
    return rows, columns


def central_crops(count: int, shape: tuple[int, int], size: int) -> Box:
    """The central square of ``size`` pixels, or of the shorter side where the image is smaller (then it is enlarged)."""
    side = min(size, *shape)

    def full(value: int) -> NDArray[np.int64]:
        return np.full(count, value, dtype=np.int64)

    return full((shape[0] - side) // 2), full((shape[1] - side) // 2), full(side), full(side)
