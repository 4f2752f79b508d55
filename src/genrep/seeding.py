"""Random numbers that are pure functions of named integers: on any machine, in any batch, under any version.

Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"), vectorised over a batch, and
transforms of it that use only operations which IEEE 754 rounds exactly (+, -, *, /, sqrt). Logarithm, sine and cosine are
polynomials here, because the ones of NumPy differ in the last bit between processors.

The stream of a dataset's pair: key = (low, high) word of the seed, counter = (low, high word of the pair's index,
``stream + 65536 * attempt``, block). A block of four 32-bit words gives four uniforms, or four normals.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint32]
    Floats = NDArray[np.floating[Any]]  # float64 all through

# Streams of a pair. Positive k draws from POSITIVE + k.
ANCHOR, LABEL, POSITIVE = 0, 1, 256
MAX_STREAM = 65536

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def derive(*names: int | str) -> int:
    """A 63-bit integer that is a fixed function of the names, e.g. ``derive("order", seed, epoch)``."""
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def philox4x32(c0: Words, c1: Words, c2: Words, c3: Words, seed: int) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox on counters (arrays of one shape) under the 64-bit key ``seed``."""
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    shift = np.uint64(32)
    for _ in range(_ROUNDS):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # uint32 * uint64 -> uint64
        c0, c1, c2, c3 = (
            (right >> shift).astype(np.uint32) ^ c1 ^ np.uint32(k0),
            right.astype(np.uint32),
            (left >> shift).astype(np.uint32) ^ c3 ^ np.uint32(k1),
            left.astype(np.uint32),
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _blocks(seed: int, indices: NDArray[np.int64], stream: int, attempt: int, blocks: NDArray[np.int64]) -> Words:
    """Words of the given blocks of the given pairs. Shape: ``(N,), (N,) -> (N, 4)``."""
    low, high = (indices & 0xFFFFFFFF).astype(np.uint32), (indices >> 32).astype(np.uint32)
    third = np.full(len(indices), stream + MAX_STREAM * attempt, dtype=np.uint32)
    return np.stack(philox4x32(low, high, third, blocks.astype(np.uint32), seed), axis=1)


def log(x: Floats) -> Floats:
    mantissa, exponent = np.frexp(x)
    small = mantissa < 0.7071067811865476
    mantissa, exponent = np.where(small, mantissa * 2.0, mantissa), exponent - small
    s = (mantissa - 1.0) / (mantissa + 1.0)  # |s| <= 0.172; log m = 2 artanh s
    square = s * s
    series = np.full_like(s, 1.0 / 21.0)
    for odd in range(19, 0, -2):
        series = series * square + 1.0 / odd
    return exponent * 0.6931471805599453 + 2.0 * s * series


def sin_cos(angle: Floats) -> tuple[Floats, Floats]:
    """Taylor polynomials for ``|angle| <= pi / 4``."""
    square = angle * angle
    sine, cosine = np.ones_like(angle), np.ones_like(angle)
    for n in range(15, 1, -2):
        sine = 1.0 - sine * square / (n * (n - 1))
        cosine = 1.0 - cosine * square / ((n + 1) * n)
    return angle * sine, 1.0 - cosine * square / 2.0


def _to_normals(words: Words) -> Floats:
    """Box-Muller: words (w0, w1) and (w2, w3) each give two standard normals. Shape: ``(N, 4) -> (N, 4)``."""
    radius = np.sqrt(-2.0 * log((words[:, 0::2] + 0.5) / 4294967296.0))  # (N, 2)
    quadrant = words[:, 1::2] >> np.uint32(30)
    fraction = ((words[:, 1::2] & np.uint32(0x3FFFFFFF)) + 0.5) / 1073741824.0 - 0.5
    sine, cosine = sin_cos(fraction * 1.5707963267948966)
    swap, minus = (quadrant & 1).astype(bool), (quadrant & 2).astype(bool)
    x, y = np.where(swap, -sine, cosine), np.where(swap, cosine, sine)
    sign = np.where(minus, -radius, radius)
    return np.stack([sign * x, sign * y], axis=2).reshape(-1, 4)


def standard_normals(seed: int, indices: NDArray[np.int64], stream: int, dim: int) -> Floats:
    """Standard normals of one stream of each pair. Shape: ``(N,) -> (N, dim)``."""
    return _draw(seed, indices, stream, dim, None)


def truncated_normals(seed: int, indices: NDArray[np.int64], stream: int, dim: int, truncation: float) -> Floats:
    """Standard normals conditioned on ``|x| <= truncation``, by redrawing. Shape: ``(N,) -> (N, dim)``."""
    return _draw(seed, indices, stream, dim, truncation)


def uniforms(seed: int, indices: NDArray[np.int64], stream: int, dim: int) -> Floats:
    """Uniforms in the open interval (0, 1). Shape: ``(N,) -> (N, dim)``."""
    per_row = -(-dim // 4)
    words = _blocks(seed, np.repeat(indices, per_row), stream, 0, np.tile(np.arange(per_row), len(indices)))
    return ((words + 0.5) / 4294967296.0).reshape(len(indices), -1)[:, :dim]


def _draw(seed: int, indices: NDArray[np.int64], stream: int, dim: int, truncation: float | None) -> Floats:
    indices = np.asarray(indices, dtype=np.int64)
    per_row = -(-dim // 4)
    rows, blocks = np.repeat(indices, per_row), np.tile(np.arange(per_row), len(indices))
    values = _to_normals(_blocks(seed, rows, stream, 0, blocks))  # (N * per_row, 4)
    attempt = 0
    while truncation is not None:
        outside = np.abs(values) > truncation
        again = np.flatnonzero(outside.any(axis=1))
        if not len(again):
            break
        attempt += 1
        redrawn = _to_normals(_blocks(seed, rows[again], stream, attempt, blocks[again]))
        values[again] = np.where(outside[again], redrawn, values[again])
    return values.reshape(len(indices), -1)[:, :dim]


class StepNoise:
    """Standard normals of the steps of a sampler: functions of (seed, index of the pair, stream, step).

    ``noise(step, size)`` gives float32 of shape ``(B, size)``, the same for a pair in any batch. ``step`` counts the sampler's
    steps from 0; -1 is what is drawn before the first.
    """

    def __init__(self, seed: int, indices: NDArray[np.int64], stream: int = ANCHOR) -> None:
        self.seed, self.indices, self.stream = seed, np.asarray(indices, dtype=np.int64), stream

    def __call__(self, step: int, size: int) -> NDArray[np.float32]:
        """Noise of one step. Shape: ``(B, size)``."""
        return standard_normals(derive("step", self.seed, step), self.indices, self.stream, size).astype(np.float32)
