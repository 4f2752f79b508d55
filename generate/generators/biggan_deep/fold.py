"""What of BigGAN-deep depends on neither z nor y, computed once: spectral norms, batch statistics, biases."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def normed(tensors: Mapping[str, Tensor], prefix: str) -> Tensor:
    """``W / sigma`` with ``sigma = u^T W v`` of the stored u and v, as spectral normalisation is at test time; float64."""
    weight = tensors[prefix + "weight_orig"].double()
    matrix = weight.flatten(1)
    return weight / (tensors[prefix + "weight_u"].double() @ (matrix @ tensors[prefix + "weight_v"].double()))


def upsampling(weight: Tensor) -> Tensor:
    """The 4x4 kernel of a transposed convolution of stride 2 that equals nearest-neighbour upsampling and a 3x3 convolution.

    It costs 4/9 of the multiplications. Shape: ``(O, I, 3, 3) -> (I, O, 4, 4)``.
    """
    taps = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # of the 3 that each of the 4 sums
    return torch.einsum("ar,oirs,bs->ioab", taps, weight, taps)


def statistics(table: Tensor, truncation: float) -> Tensor:
    """The row of batch statistics for a truncation in (0, 1].

    The published code interpolates between two rows with the weights exchanged (and so do the samples that people know
    of these networks): row i counts by the fraction that lies above it. Floating-point residues are part of that: 0.14
    gives row 8, not 7. Shape: ``(S, C) -> (C,)``, float64.
    """
    fraction, whole = math.modf(truncation / (1.0 / (table.shape[0] - 1)))
    row = int(whole)
    if fraction == 0.0:
        return table[row].double()
    above = min(row + 1, table.shape[0] - 1)
    return table[row].double() * fraction + table[above].double() * (1 - fraction)


def unconditional_norm(
    tensors: Mapping[str, Tensor], prefix: str, truncation: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Gain and shift of a batch norm with plain affine parameters. Shapes: ``(C,)``."""
    mean = statistics(tensors[prefix + "running_means"], truncation)
    variance = statistics(tensors[prefix + "running_vars"], truncation)
    gain = tensors[prefix + "weight"].double() * (variance + eps).rsqrt()
    return gain, tensors[prefix + "bias"].double() - mean * gain


def conditional_norm(
    tensors: Mapping[str, Tensor], prefix: str, truncation: float, eps: float, input_bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one linear layer from the condition to gain and shift of a batch norm, gains first.

    ``((x + b) - m) / sqrt(v + eps) (1 + S c) + O c`` becomes ``x gain(c) + shift(c)``; ``input_bias`` is b, of the layer
    before. Shapes: ``(2 C, condition_dim)``, ``(2 C,)``.
    """
    mean = statistics(tensors[prefix + "running_means"], truncation)
    if input_bias is not None:
        mean = mean - input_bias.double()
    scale = (statistics(tensors[prefix + "running_vars"], truncation) + eps).rsqrt()
    gain = normed(tensors, prefix + "scale.") * scale[:, None]
    shift = normed(tensors, prefix + "offset.") - mean[:, None] * gain
    return torch.cat([gain, shift]), torch.cat([scale, -mean * scale])
