"""The four operations that StyleGAN2 is made of, in plain PyTorch.

Everything here is differentiable (twice, as R1 needs), runs on any device, and works in the dtype of ``x``.

Where the originals use custom CUDA kernels, the FIR filter is a depthwise convolution. Measured on a CPU in bfloat16, a
strided 3x3 convolution with a depthwise filter beats both the composed 6x6 kernel (2 to 7 times, forward and backward) and
polyphase convolutions with a pixel shuffle (about 2 times); a *strided* depthwise convolution has a slow backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)
LEAKY_SLOPE = 0.2


def _identity(x: Tensor) -> Tensor:
    return x


def _leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAKY_SLOPE)


# Activations by the names that the NVIDIA releases use, each with its gain.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (_identity, 1.0),
    "relu": (F.relu, SQRT2),
    "lrelu": (_leaky_relu, SQRT2),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 1.0),
    "elu": (F.elu, 1.0),
    "selu": (F.selu, 1.0),
    "softplus": (F.softplus, 1.0),
    "swish": (F.silu, SQRT2),
}


def fir_kernel(taps: tuple[float, ...] | list[float] = (1.0, 3.0, 3.0, 1.0)) -> Tensor:
    """The separable low-pass filter as a 2-D kernel that sums to 1. Shape: ``(len(taps), len(taps))``."""
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(row, row)
    return kernel / kernel.sum()


def up_kernel(taps: tuple[float, ...] | tuple[tuple[float, ...], ...]) -> Tensor:
    """The kernel of an upsampling by 2, for separable taps or a square matrix of them. Shape: ``(f, f)``, f even.

    The paddings of the originals, ``(f + 1) // 2`` before and ``(f - 2) // 2`` after, treat an odd filter as the even one
    that has a zero in front; with it, all that follows need only know even sizes.
    """
    # On the CPU also where shapes are worked out on the meta device: arithmetic there imports torch's compiler, two seconds.
    kernel = torch.tensor(taps, dtype=torch.float32, device="cpu")
    if kernel.dim() == 1:
        kernel = torch.outer(kernel, kernel)
    kernel = kernel / kernel.sum()
    return F.pad(kernel, (1, 0, 1, 0)) if kernel.shape[0] % 2 else kernel


def second_moment_normalise(x: Tensor) -> Tensor:
    """Scale each row to a mean square of 1 (its norm becomes sqrt(D), not 1). Shape: ``(B, D) -> (B, D)``."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def biased_leaky_relu(x: Tensor, bias: Tensor, gain: float = SQRT2, clamp: float | None = None) -> Tensor:
    """``clamp(gain * leaky_relu(x + bias))`` over channels. Shapes: x ``(B, C, ...)``, bias ``(C,)``."""
    return biased_activation(x, bias, _leaky_relu, gain, clamp)


def biased_activation(
    x: Tensor,
    bias: Tensor,
    function: Callable[[Tensor], Tensor],
    gain: float,
    clamp: float | None = None,
    *,
    in_place: bool = False,
) -> Tensor:
    """``clamp(gain * function(x + bias))`` over channels. Shapes: x ``(B, C, ...)``, bias ``(C,)``.

    ``in_place`` may overwrite x.
    """
    bias = bias.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))
    if in_place:
        x = x.add_(bias)
        x = (F.leaky_relu_(x, LEAKY_SLOPE) if function is _leaky_relu else function(x)).mul_(gain)
        return x if clamp is None else x.clamp_(-clamp, clamp)
    x = function(x + bias) * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def scale_channels(x: Tensor, scale: Tensor, *, in_place: bool = False) -> Tensor:
    """Multiply each sample's channels. Shapes: x ``(B, C, H, W)``, scale ``(B, C)``."""
    scale = scale.to(x.dtype)[:, :, None, None]
    return x.mul_(scale) if in_place else x * scale


def fir_filter(x: Tensor, fir: Tensor, *, gain: float, padding: int) -> Tensor:
    """Convolve each channel, with zeros around. Shape: ``(B, C, H, W) -> (B, C, H + 2p - f + 1, W + 2p - f + 1)``."""
    kernel = (fir.flip((0, 1)) * gain).to(x.dtype).expand(x.shape[1], 1, *fir.shape)
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


def kernel_energy(weight: Tensor) -> Tensor:
    """Sum of squares of each kernel. Shape: ``(O, I, k, k) -> (O, I)``, float32."""
    return weight.float().square().sum(dim=(2, 3))


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool,
    up_fir: Tensor | None = None,
    energy: Tensor | None = None,
    in_place: bool = False,
) -> Tensor:
    """Convolution whose kernel is scaled per sample and input channel, then normalised per output channel.

    StyleGAN2 (Karras et al. 2020) eq. 1 and 3. Scaling the activations instead of the kernels is the same
    function and lets the whole batch share one convolution.

    Shapes: x ``(B, I, H, W)``, weight ``(O, I, k, k)``, styles ``(B, I)`` -> ``(B, O, H, W)`` or ``(B, O, 2H, 2W)``;
    energy ``(O, I)``: ``kernel_energy(weight)``, if it is at hand. ``in_place`` may overwrite x.
    """
    demodulation = None
    if demodulate:
        energy = kernel_energy(weight) if energy is None else energy
        demodulation = (styles.float().square() @ energy.t() + 1e-8).rsqrt()  # (B, O)
        if x.dtype == torch.float16:  # styles cancel in the product; unit maximum keeps half precision in range
            largest = styles.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
            styles, demodulation = styles / largest, demodulation * largest
    x = scale_channels(x, styles, in_place=in_place)
    if up_fir is None:
        x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
    else:
        x = conv_up2(x, weight, up_fir)
    return x if demodulation is None else scale_channels(x, demodulation, in_place=in_place)


def modulated_sum(x: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
    """``modulated_conv`` with 1x1 kernels and without demodulation, as a product of matrices.

    Scaling the few kernels instead of all activations is what costs least for the three channels of an image.

    Shapes: x ``(B, I, H, W)``, weight ``(O, I, 1, 1)``, styles ``(B, I)`` -> ``(B, O, H, W)``.
    """
    kernels = (weight[:, :, 0, 0] * styles[:, None]).to(x.dtype)  # (B, O, I)
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H * W, I), no copy where x is channels-last
    return torch.bmm(pixels, kernels.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


class Dense(nn.Module):
    """Fully connected layer with equalised learning rate: ``y = x (W lr / sqrt(fan_in))^T + lr b``.

    Weights are stored at a standard deviation of ``1 / lr``; ``activation`` adds a nonlinearity with its gain.
    """

    scaled_weight: Tensor | None  # the weight with its gain, once frozen
    scaled_bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
        activation: bool = False,
        nonlinearity: str = "lrelu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[nonlinearity] if activation else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        weight = torch.randn(out_features, in_features)
        # See ``up_kernel`` for the meta device.
        self.weight = nn.Parameter(weight if weight.is_meta else weight / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.register_buffer("scaled_weight", None, persistent=False)
        self.register_buffer("scaled_bias", None, persistent=False)

    def freeze(self) -> None:
        """Scale weight and bias once and for all, from their present values."""
        self.scaled_weight = (self.weight * self.weight_gain).detach()
        self.scaled_bias = (self.bias * self.bias_gain).detach()

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, in_features) -> (B, out_features)``."""
        weight = self.weight * self.weight_gain if self.scaled_weight is None else self.scaled_weight
        bias = self.bias * self.bias_gain if self.scaled_bias is None else self.scaled_bias
        x = F.linear(x, weight.to(x.dtype), bias.to(x.dtype))
        if self.activation is None:
            return x
        function, gain = self.activation
        return function(x) * gain
