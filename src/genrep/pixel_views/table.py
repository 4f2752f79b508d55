"""The numbers that each image's view needs on the device, as one array, so that a batch uploads once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import randaugment as ra
from .geometry import IDENTITY, sheared, turn_and_zoom
from .parameters import OP_CONTRAST, OP_HUE, OP_SATURATION, ViewParameters

# Columns.
TOP, LEFT, HEIGHT, WIDTH, FLIP, GRAYSCALE, SIGMA = range(7)
MEAN, STD, AFFINE = 7, 10, 13  # of three channels each; a 2x3 matrix, row by row
SOLARIZE = 19
# The parameters of one step of the jitter, four times.
PLACES, FACTOR, OF_GRAY, OF_MEAN, SIXTHS = 20, 0, 1, 2, 3
PER_PLACE = 4
# What an operation of RandAugment does, as often as there are: a 2x3 matrix, then a number (or flag) for each kind.
RAND = PLACES + 4 * PER_PLACE
RAND_FACTOR, RAND_OF_GRAY, RAND_OF_MEAN, REST, STEP, THRESHOLD, AUTOCONTRAST, EQUALIZE = range(6, 14)
PER_OPERATION = 14

Floats = NDArray[np.float64]


def number_table(p: ViewParameters, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Shape: ``(N, columns)``; coordinates are exact up to 2^24 pixels."""
    count = len(p)
    columns = [p.top, p.left, p.height, p.width, p.flip, p.grayscale, p.sigma]
    matrices = turn_and_zoom(p.angle, p.zoom, p.shift) if p.views.affine else np.repeat(IDENTITY[None], count, axis=0)
    normal = np.broadcast_to([*mean, *std], (count, 6))
    parts = [np.stack(columns, axis=1), normal, matrices.reshape(count, 6), p.solarize[:, None].astype(np.float64)]
    parts += [_place(p, p.order[:, place]) for place in range(4)]
    for k in range(p.rand.shape[1]):
        parts.append(_operation(p.rand[:, k], p.rand_sign[:, k], p.views.rand_magnitude, size))
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _place(p: ViewParameters, operation: NDArray[np.int64]) -> Floats:
    """An operation of the jitter; all that it does not do is 1 (the factor) or 0. Shape: ``(N,) -> (N, PER_PLACE)``."""
    kinds = np.stack([p.brightness, p.contrast, p.saturation, np.ones(len(p))])
    factor = np.where(p.jitter, kinds[operation, np.arange(len(p))], 1.0)
    rest = 1 - factor
    sixths = np.where(p.jitter & (operation == OP_HUE), 6 * p.hue, 0.0)
    return np.stack([factor, rest * (operation == OP_SATURATION), rest * (operation == OP_CONTRAST), sixths], axis=1)


def _operation(kind: NDArray[np.int64], sign: NDArray[np.int64], magnitude: int, size: int) -> Floats:
    """An operation of RandAugment; all others are set to what changes nothing. Shape: ``(N,) -> (N, 14)``."""
    portion = magnitude / ra.MAGNITUDES
    found = np.zeros((len(kind), PER_OPERATION))
    found[:, :6] = _matrices(kind, np.asarray(sign * portion, dtype=np.float64), size).reshape(-1, 6)
    factor = 1 + sign * portion * ra.STRONGEST[ra.BRIGHTNESS]
    found[:, RAND_FACTOR] = np.where(np.isin(kind, (ra.BRIGHTNESS, ra.COLOUR, ra.CONTRAST)), factor, 1.0)
    found[:, RAND_OF_GRAY] = np.where(kind == ra.COLOUR, 1 - factor, 0.0)
    found[:, RAND_OF_MEAN] = np.where(kind == ra.CONTRAST, 1 - factor, 0.0)
    found[:, REST] = np.where(kind == ra.SHARPNESS, 1 - factor, 0.0)
    found[:, STEP] = np.where(kind == ra.POSTERIZE, 2.0 ** (8 - round(8 - 4 * portion)), 1.0)
    found[:, THRESHOLD] = np.where(kind == ra.SOLARIZE, 255 * (1 - portion), 256.0)
    found[:, AUTOCONTRAST] = kind == ra.AUTOCONTRAST
    found[:, EQUALIZE] = kind == ra.EQUALIZE
    return found


def _matrices(kind: NDArray[np.int64], amount: Floats, size: int) -> Floats:
    """Matrices of the operations that move pixels, and the identity for the others. Shape: ``(N,) -> (N, 2, 3)``."""
    found = np.repeat(IDENTITY[None], len(kind), axis=0)
    for axis, (shear, translate) in enumerate(((ra.SHEAR_X, ra.TRANSLATE_X), (ra.SHEAR_Y, ra.TRANSLATE_Y))):
        rows = kind == shear
        found[rows] = sheared(amount[rows] * ra.STRONGEST[shear], axis, size)
        rows = kind == translate
        found[rows, axis, 2] = -np.trunc(amount[rows] * ra.STRONGEST[translate] * size)
    rows = kind == ra.ROTATE
    still = np.zeros((int(rows.sum()), 2), dtype=np.int64)
    # Torchvision's ``rotate`` turns the other way round than its ``affine``.
    found[rows] = turn_and_zoom(-amount[rows] * ra.STRONGEST[ra.ROTATE], np.ones(len(still)), still)
    return found
