"""The four operations that StyleGAN2 is made of, in plain PyTorch.

Everything here is differentiable (twice, as R1 needs), runs on any device, and works in the dtype of ``x``.

Where the originals use custom CUDA kernels, the FIR filter is a depthwise convolution. Measured on a CPU in bfloat16, a
strided 3x3 convolution with a depthwise filter beats both the composed 6x6 kernel (2 to 7 times, forward and backward) and
polyphase convolutions with a pixel shuffle (about 2 times); a *strided* depthwise convolution has a slow backward pass.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)
LEAKY_SLOPE = 0.2


def fir_kernel(taps: tuple[float, ...] | list[float] = (1.0, 3.0, 3.0, 1.0)) -> Tensor:
    """The separable low-pass filter as a 2-D kernel that sums to 1. Shape: ``(len(taps), len(taps))``."""
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(row, row)
    return kernel / kernel.sum()


def second_moment_normalise(x: Tensor) -> Tensor:
    """Scale each row to a mean square of 1 (its norm becomes sqrt(D), not 1). Shape: ``(B, D) -> (B, D)``."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def biased_leaky_relu(x: Tensor, bias: Tensor, gain: float = SQRT2, clamp: float | None = None) -> Tensor:
    """``clamp(gain * leaky_relu(x + bias))`` over channels. Shapes: x ``(B, C, ...)``, bias ``(C,)``."""
    x = x + bias.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))
    x = F.leaky_relu(x, LEAKY_SLOPE) * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def fir_filter(x: Tensor, fir: Tensor, *, gain: float, padding: int) -> Tensor:
    """Filter each channel, with zeros around. Shape: ``(B, C, H, W) -> (B, C, H + 2p - f + 1, W + 2p - f + 1)``."""
    kernel = (fir * gain).to(x.dtype).expand(x.shape[1], 1, *fir.shape)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def conv_up2(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    """Convolve and double the resolution: stride-2 transposed convolution, then the FIR filter with gain 4.

    Shapes: x ``(B, I, H, W)``, weight ``(O, I, 3, 3)`` (correlation layout) -> ``(B, O, 2H, 2W)``.
    """
    x = F.conv_transpose2d(x, weight.transpose(0, 1).to(x.dtype), stride=2)  # (B, O, 2H + 1, 2W + 1)
    return fir_filter(x, fir, gain=4.0, padding=(fir.shape[-1] - 2) // 2)


def conv_down2(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    """FIR filter, then a stride-2 convolution. Shapes: ``(B, I, H, W), (O, I, k, k) -> (B, O, H/2, W/2)``."""
    x = fir_filter(x, fir, gain=1.0, padding=(fir.shape[-1] + weight.shape[-1] - 3) // 2)
    return F.conv2d(x, weight.to(x.dtype), stride=2)


def upsample2(x: Tensor, fir: Tensor) -> Tensor:
    """Zero-insert and low-pass filter each channel. Shape: ``(B, C, H, W) -> (B, C, 2H, 2W)``.

    Away from the border this equals bilinear interpolation; at the border it does not (zeros, not edge values).
    """
    kernel = (fir * 4.0).to(x.dtype).expand(x.shape[1], 1, *fir.shape)
    return F.conv_transpose2d(x, kernel, stride=2, padding=(fir.shape[-1] - 2) // 2, groups=x.shape[1])


def modulated_conv(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool, up_fir: Tensor | None = None
) -> Tensor:
    """Convolution whose kernel is scaled per sample and input channel, then normalised per output channel.

    StyleGAN2 (Karras et al. 2020) eq. 1 and 3. Scaling the activations instead of the kernels is the same
    function and lets the whole batch share one convolution.

    Shapes: x ``(B, I, H, W)``, weight ``(O, I, k, k)``, styles ``(B, I)`` -> ``(B, O, H, W)`` or ``(B, O, 2H, 2W)``.
    """
    demodulation = None
    if demodulate:
        energy = weight.float().square().sum(dim=(2, 3))  # (O, I)
        demodulation = (styles.float().square() @ energy.t() + 1e-8).rsqrt()  # (B, O)
        if x.dtype == torch.float16:  # styles cancel in the product; unit maximum keeps half precision in range
            largest = styles.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
            styles, demodulation = styles / largest, demodulation * largest
    x = x * styles.to(x.dtype)[:, :, None, None]
    if up_fir is None:
        x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
    else:
        x = conv_up2(x, weight, up_fir)
    return x if demodulation is None else x * demodulation.to(x.dtype)[:, :, None, None]


class Dense(nn.Module):
    """Fully connected layer with equalised learning rate: ``y = x (W lr / sqrt(fan_in))^T + lr b``.

    Weights are stored at a standard deviation of ``1 / lr``; ``activation`` adds the scaled leaky ReLU.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, in_features) -> (B, out_features)``."""
        x = F.linear(x, (self.weight * self.weight_gain).to(x.dtype), (self.bias * self.bias_gain).to(x.dtype))
        return F.leaky_relu(x, LEAKY_SLOPE) * SQRT2 if self.activation else x
