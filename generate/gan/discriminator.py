"""StyleGAN2's residual discriminator (Karras et al. 2020, section 4.1; class conditioning by projection), and what it is shown.

Adaptive augmentation (Karras et al. 2020, "Training GANs with Limited Data") is for small sets: every image that the
discriminator sees, real or generated, is transformed with probability p per kind of transform; p follows how far the
discriminator tells real training images by sign, so that small sets are not memorised.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..generators.stylegan2 import ops
from ..generators.stylegan2.networks import MappingNetwork, StyleGAN2Config
from ..generators.stylegan2.ops import Dense

TARGET_SIGN = 0.6  # target of E[sign(D(real))]
FULL_RANGE_IMAGES = 500_000  # images after which p could have gone from 0 to 1


def adjust_probability(p: float, mean_sign: float, images: int) -> float:
    """Move p by what ``images`` training images allow, towards the target sign."""
    step = math.copysign(images / FULL_RANGE_IMAGES, mean_sign - TARGET_SIGN)
    return min(max(p + step, 0.0), 1.0)


def augment(images: Tensor, p: float) -> Tensor:
    """Flip, shift, rotate, scale, brighten and contrast each image, each kind with probability p.

    Shape: ``(B, C, H, W) -> (B, C, H, W)``. Differentiable once in ``images``; draws from torch's global stream.
    """
    if p <= 0:
        return images
    batch, device = images.shape[0], images.device

    def chosen(value: Tensor, neutral: float) -> Tensor:
        return torch.where(torch.rand(batch, device=device) < p, value, torch.full_like(value, neutral))

    flip = chosen(torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0), 1.0)
    scale = chosen((torch.randn(batch, device=device) * 0.2).exp2(), 1.0)
    angle = chosen((torch.rand(batch, device=device) * 2 - 1) * math.pi / 12, 0.0)
    shift_x, shift_y = (chosen((torch.rand(batch, device=device) * 2 - 1) * 0.125, 0.0) for _ in range(2))
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([torch.stack([cos * flip, -sin, shift_x], 1), torch.stack([sin * flip, cos, shift_y], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    brightness = chosen(torch.randn(batch, device=device) * 0.2, 0.0)
    contrast = chosen((torch.randn(batch, device=device) * 0.5).exp2(), 1.0)
    return images * contrast[:, None, None, None] + brightness[:, None, None, None]


class Conv(nn.Module):
    """Equalised convolution with optional bias + leaky ReLU, optionally halving the resolution."""

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, activation: bool = True, down: bool = False
    ) -> None:
        super().__init__()
        self.activation, self.down = activation, down
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        if activation:
            self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", ops.fir_kernel())

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Shape: ``(B, I, H, W) -> (B, O, H, W)``, or ``H/2, W/2`` with ``down``."""
        weight = self.weight * (self.weight_gain if self.activation else self.weight_gain * gain)
        if self.down:
            x = ops.conv_down2(x, weight, self.resample_filter)
        else:
            x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
        return ops.biased_leaky_relu(x, self.bias, gain=ops.SQRT2 * gain) if self.activation else x


class Block(nn.Module):
    """``(conv, conv-down) + 1x1 down`` at one resolution; halves it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = Conv(in_channels, in_channels, 3)
        self.conv1 = Conv(in_channels, out_channels, 3, down=True)
        self.skip = Conv(in_channels, out_channels, 1, activation=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, I, H, W) -> (B, O, H/2, W/2)``."""
        shortcut = self.skip(x, gain=math.sqrt(0.5))
        return self.conv1(self.conv0(x), gain=math.sqrt(0.5)) + shortcut


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append one channel: the mean standard deviation within groups of ``group_size`` samples of the batch.

    Shape: ``(B, C, H, W) -> (B, C + 1, H, W)``; B must be a multiple of ``min(group_size, B)``.
    """
    batch, channels, height, width = x.shape
    group = min(group_size, batch)
    # Flat and contiguous, since a variance over the leading axis of channels-last data is slow on a CPU.
    y = x.float().contiguous().view(group, batch // group, channels * height * width)
    y = y - y.mean(dim=0)
    deviation = (y.square().mean(dim=0) + 1e-8).sqrt().mean(dim=1)  # (B / group,)
    channel = deviation.repeat(group).to(x.dtype)[:, None, None, None].expand(batch, 1, height, width)
    return torch.cat([x, channel], dim=1)


class Discriminator(nn.Module):
    """Image (and class) -> one logit: how real it looks."""

    def __init__(
        self, *, resolution: int, channels: tuple[int, ...], img_channels: int, c_dim: int = 0, group_size: int = 4
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.dtype = torch.float32
        widths = channels[::-1]  # from the full resolution down to 4x4
        self.fromrgb = Conv(img_channels, widths[0], 1)
        self.blocks = nn.Sequential(*(Block(widths[i], widths[i + 1]) for i in range(len(widths) - 1)))
        self.conv = Conv(widths[-1] + 1, widths[-1], 3)
        self.fc = Dense(widths[-1] * 16, widths[-1], activation=True)
        features = 1 if c_dim == 0 else widths[-1]
        self.out = Dense(widths[-1], features)
        self.class_projection: MappingNetwork | None = None
        if c_dim > 0:
            self.class_projection = MappingNetwork(
                StyleGAN2Config(z_dim=0, w_dim=features, c_dim=c_dim, resolution=4, channels=(1,), num_mapping_layers=2)
            )

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        """Shapes: image ``(B, img_channels, H, W)``, c ``(B, c_dim)`` or None -> logits ``(B,)``."""
        x = image.to(self.dtype).contiguous(memory_format=torch.channels_last)
        x = self.blocks(self.fromrgb(x))
        x = self.conv(minibatch_stddev(x, self.group_size)).float()
        x = self.out(self.fc(x.flatten(1)))
        if self.class_projection is None:
            return x[:, 0]
        projected = self.class_projection(x.new_zeros(x.shape[0], 0), c)
        return (x * projected).sum(dim=1) / math.sqrt(x.shape[1])
