"""Drawing the parameters of pixel views, for whole batches, as torchvision's transforms would draw them one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import derive, philox4x32

from . import PixelViews


def view_uniforms(
    key: int, index: NDArray[np.int64], view: NDArray[np.int64], blocks: Sequence[int]
) -> NDArray[np.float64]:
    """Uniforms in (0, 1): of each sample and view those that ``genrep.seeding.uniforms(key, index, stream=view)`` gives.

    Only the blocks asked for are made, and all views at once.

    Args:
        key: 63 bits, e.g. ``derive("pixel-views", seed, epoch)``.
        index: Shape ``(N,)``.
        view: Shape ``(N,)``; 0 to 65535.
        blocks: Which blocks of each stream.

    Returns:
        Shape ``(len(blocks), 4, N)``.
    """
    low, high = (index & 0xFFFFFFFF).astype(np.uint32)[None], (index >> 32).astype(np.uint32)[None]
    block = np.array(blocks, dtype=np.uint32)[:, None]
    words = philox4x32(low, high, view.astype(np.uint32)[None], block, key)
    found = np.empty((len(blocks), 4, len(index)))
    for place, word in enumerate(words):
        np.multiply(word + 0.5, 2.0**-32, out=found[:, place])
    return found


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


# The numbers of the colour operations in ``order``, as in torchvision's ColorJitter.
OP_BRIGHTNESS, OP_CONTRAST, OP_SATURATION, OP_HUE = range(4)
ORDERS = np.array(list(permutations(range(4))), dtype=np.int64)  # (24, 4)
RAND_OPERATIONS = 14

# A view's stream comes in blocks of four numbers. A block that a law has no use for is not drawn.
TRIES = (0, 1, 2)  # of the crop, two to a block
PLACE, COLOUR, CHOICE, AFFINE = 3, 4, 5, 6
MORE_TRIES = (7, 8)  # drawn for the few crops that none of the first tries fits
RAND = 9  # and on: two operations to a block
LATER = 64  # solarisation, loss of detail, how much of it


@dataclass(frozen=True, kw_only=True)
class ViewParameters:
    """The parameters of the pixel view of each of N images."""

    views: PixelViews  # the law they were drawn from
    top: NDArray[np.int64]  # (N,) pixels
    left: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    flip: NDArray[np.bool_]
    angle: NDArray[np.float64]  # degrees, clockwise
    shift: NDArray[np.int64]  # (N, 2) pixels to the right, and down
    zoom: NDArray[np.float64]
    jitter: NDArray[np.bool_]  # where False, the next five do not matter
    brightness: NDArray[np.float64]  # factors
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    hue: NDArray[np.float64]  # turns
    order: NDArray[np.int64]  # (N, 4): the operation (OP_…) done first, second, third, fourth
    sigma: NDArray[np.float64]  # of the blur, in pixels; 0: none
    rand: NDArray[np.int64]  # (N, n): RandAugment's operations in torchvision's order of them, 0 … 13
    rand_sign: NDArray[np.int64]  # (N, n): 1 or -1
    grayscale: NDArray[np.bool_]
    solarize: NDArray[np.bool_]
    detail: NDArray[np.int64]  # pixels of the image's shorter side that detail is kept of; 0: of all

    def __len__(self) -> int:
        return len(self.top)

    def take(self, rows: NDArray[np.int64] | slice) -> ViewParameters:
        """The parameters of some of the images, in the order of ``rows``."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "views"}
        return ViewParameters(views=self.views, **{name: values[rows] for name, values in arrays.items()})


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
        view: Shape ``(N,)``: 0 for a pair's anchor, 1 for its positive; any number below 65536.
        image_shape: height and width of the images.
        size: side of the output, which the central crop and shifts need.
    """
    key = derive("pixel-views", seed, epoch)
    rand = tuple(range(RAND, RAND + -(-views.rand_operations // 2)))
    first = TRIES if views.random_crop else ()
    wanted = (*first, PLACE, COLOUR, CHOICE, *((AFFINE,) if views.affine else ()), *rand, *_later(views))
    u = dict(zip(wanted, view_uniforms(key, index, view, wanted)))
    if views.random_crop:
        tries = np.stack([u[block] for block in first])
        box = random_boxes(tries, u[PLACE][:2], _more_tries(key, index, view), views, *_sides(image_shape, len(index)))
    else:
        box = central_box(*_sides(image_shape, len(index)), views.centre or size)
    return _from_uniforms(views, u, box, size, len(index))


def _later(views: PixelViews) -> tuple[int, ...]:
    return (LATER,) if views.solarize or views.downsample else ()


def draw_boxes(
    views: PixelViews,
    *,
    seed: int,
    epoch: int,
    index: NDArray[np.int64],
    view: NDArray[np.int64],
    image_shape: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Box:
    """Only the crops of ``draw``: the same ones, of images of any sizes. Without a random crop the central squares:
    those of the law's ``centre``, or the largest ones.

    Args:
        image_shape: height and width of each image. Shape: ``(N,)`` each.
    """
    if not views.random_crop:
        return central_box(*image_shape, views.centre)
    key = derive("pixel-views", seed, epoch)
    uniforms = view_uniforms(key, index, view, (*TRIES, PLACE))
    return random_boxes(uniforms[:-1], uniforms[-1][:2], _more_tries(key, index, view), views, *image_shape)


def _more_tries(
    key: int, index: NDArray[np.int64], view: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    return lambda rows: view_uniforms(key, index[rows], view[rows], MORE_TRIES)


def _sides(shape: tuple[int, int], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Height and width of each of ``count`` images of one shape."""
    return np.full(count, shape[0], dtype=np.int64), np.full(count, shape[1], dtype=np.int64)


def _from_uniforms(
    views: PixelViews, u: dict[int, NDArray[np.float64]], box: Box, size: int, count: int
) -> ViewParameters:
    """Everything but the crop, of uniform numbers. ``u[block]`` has the shape ``(4, N)``."""
    strengths = np.array([[views.brightness], [views.contrast], [views.saturation], [views.hue]])
    brightness, contrast, saturation, hue = strengths * (2 * u[COLOUR] - 1) + [[1], [1], [1], [0]]
    order, grayscale, blur, sigma = u[CHOICE]
    angle, zoom, shift = np.zeros(count), np.ones(count), np.zeros((count, 2), dtype=np.int64)
    if views.affine:
        affine = u[AFFINE]
        angle, zoom = views.degrees * (2 * affine[0] - 1), _between(affine[1], *views.zoom)
        shift = np.rint(views.translate * size * (2 * affine[2:].T - 1)).astype(np.int64)
    nothing = np.ones(count)
    solarize, detail, kept, _ = u.get(LATER, np.stack([nothing] * 4))
    sides = np.array(views.downsample_to, dtype=np.int64)
    rand = [u[RAND + k // 2][2 * (k % 2) :] for k in range(views.rand_operations)]
    return ViewParameters(
        views=views,
        **box,
        flip=u[PLACE][2] < views.flip,
        angle=angle,
        shift=shift,
        zoom=zoom,
        jitter=u[PLACE][3] < views.jitter,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
        order=ORDERS[(order * len(ORDERS)).astype(np.int64)],
        sigma=np.where(blur < views.blur, _between(sigma, *views.sigma), 0.0) if views.blur else np.zeros(count),
        rand=_columns([(pair[0] * RAND_OPERATIONS).astype(np.int64) for pair in rand], count),
        rand_sign=_columns([np.where(pair[1] <= 0.5, -1, 1) for pair in rand], count),
        grayscale=grayscale < views.grayscale,
        solarize=solarize < views.solarize,
        detail=np.where(
            detail < views.downsample, sides[np.minimum(kept * len(sides), len(sides) - 1).astype(np.int64)], 0
        ),
    )


def _between(u: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return low + (high - low) * u


def _columns(values: list[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    return np.stack(values, axis=1) if values else np.zeros((count, 0), dtype=np.int64)
