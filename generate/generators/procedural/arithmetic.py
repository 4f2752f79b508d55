"""Functions of tensors whose every rounding is the same in any batch, on any CPU.

Only elementwise +, -, *, /, sqrt and comparisons are used, which IEEE 754 rounds exactly. PyTorch's own exp and erf differ in
the last bit between the vectorised part of a tensor and its end, so an image would change with its place in the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Abramowitz and Stegun 7.1.28: erf(t) = 1 - 1 / (1 + a1 t + ... + a6 t^6)^16, within 3e-7.
_ERF = (0.0705230784, 0.0422820123, 0.0092705272, 0.0001520143, 0.0002765672, 0.0000430638)
_EXP_TERMS = 7


def uniform(z: Tensor) -> Tensor:
    """The distribution function of the standard normal law, within 2e-7: normal numbers become uniform ones in [0, 1]."""
    t = z.abs() * math.sqrt(0.5)
    series = torch.full_like(t, _ERF[-1])
    for coefficient in reversed(_ERF[:-1]):
        series = series * t + coefficient
    power = series * t + 1.0
    for _ in range(4):
        power = power * power
    tail = 0.5 / power
    return torch.where(z < 0, tail, 1.0 - tail)


def exp(x: Tensor) -> Tensor:
    """``e^x`` within 1e-5 of its value, for ``|x| <= 80``. Differentiable."""
    whole = torch.floor(x.detach() * (1 / math.log(2)) + 0.5)
    rest = x - whole * math.log(2)  # in +-0.35
    series = torch.ones_like(rest)
    for n in range(_EXP_TERMS, 0, -1):
        series = series * rest / n + 1.0
    power_of_two = ((whole.to(torch.int32) + 127) << 23).view(torch.float32)  # its exponent's bits
    return series * power_of_two


def fold(x: Tensor) -> Tensor:
    """Sums over the last dimension, by folding its right half onto the left. Shape: ``(..., n) -> (...)``, n >= 1."""
    while (n := x.shape[-1]) > 1:
        half = n // 2
        folded = x[..., :half] + x[..., half : 2 * half]
        x = torch.cat([folded, x[..., -1:]], dim=-1) if n % 2 else folded
    return x[..., 0]


def natural_colours(images: Tensor, z: Tensor) -> Tensor:
    """Give each channel of each image a mean and a deviation as photographs have them.

    The laws are those of the paper: over ImageNet, a channel in [0, 1] has mean ``N(m, .15)`` and deviation ``N(.21, .065)``.

    Args:
        images: zero mean and unit deviation in each channel. Shape: ``(B, 3, H, W)``.
        z: normal numbers that decide. Shape: ``(B, 6)``.

    Returns:
        Images, nominally in [-1, 1].
    """
    middle = torch.tensor([0.483, 0.455, 0.401], dtype=z.dtype, device=z.device)
    mean = middle + z[:, :3] * 0.15
    deviation = (0.215 + z[:, 3:6] * 0.065).clamp(min=0.05)
    return images * (2.0 * deviation)[:, :, None, None] + (2.0 * mean - 1.0)[:, :, None, None]
