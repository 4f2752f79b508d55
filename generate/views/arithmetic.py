"""Sums whose every rounding is the same in any batch and on any processor.

Only elementwise +, -, *, / and sqrt of NumPy are used, which IEEE 754 rounds exactly. A matrix product (or NumPy's own
sum) picks its order of additions by shape, processor and library: rows would change in the last bit with the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from genrep import seeding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

# Rows are worked on in blocks, so that accumulator and products stay in the cache.
BLOCK_VALUES = 32_768

HALF_PI = 1.5707963267948966


def row_sums(values: Floats) -> Floats:
    """Sums over columns, by folding the right half onto the left. Shape: ``(B, n) -> (B, 1)``, n >= 1."""
    while (n := values.shape[1]) > 1:
        folded = values[:, : n // 2] + values[:, n // 2 : n // 2 * 2]
        if n % 2:
            folded[:, 0] += values[:, -1]
        values = folded
    return values


def row_norms(values: Floats) -> Floats:
    """Euclidean norms. Shape: ``(B, n) -> (B, 1)`` float64."""
    wide = values.astype(np.float64)
    return np.sqrt(row_sums(wide * wide))


def affine(x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """``x @ weight + bias`` in float32, accumulated over the input columns in their order, beginning with the bias.

    Shapes: x ``(B, I)``, weight ``(I, O)``, bias ``(O,)`` -> ``(B, O)``.
    """
    out = np.empty((len(x), len(bias)), dtype=np.float32)
    rows = max(1, BLOCK_VALUES // max(1, len(bias)))
    products = np.empty((min(rows, len(x)), len(bias)), dtype=np.float32)
    for start in range(0, len(x), rows):
        block = out[start : start + rows]
        columns = np.ascontiguousarray(x[start : start + rows].T)[:, :, None]  # (I, rows, 1)
        product = products[: len(block)]
        block[:] = bias
        for column, row in zip(columns, weight):
            np.multiply(column, row, out=product)
            np.add(block, product, out=block)
    return out


def sin_cos(angle: Floats) -> tuple[Floats, Floats]:
    """Sine and cosine of any angle of moderate size, in radians."""
    quarters = np.rint(angle / HALF_PI)
    sine, cosine = seeding.sin_cos(angle - quarters * HALF_PI)
    quarter = quarters.astype(np.int64) & 3
    swapped = np.where(quarter & 1, cosine, sine), np.where(quarter & 1, sine, cosine)
    return (
        np.where(quarter >= 2, -swapped[0], swapped[0]),
        np.where((quarter == 1) | (quarter == 2), -swapped[1], swapped[1]),
    )
