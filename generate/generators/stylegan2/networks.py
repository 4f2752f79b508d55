"""StyleGAN2's mapping and synthesis networks, with the state-dict names of the ADA PyTorch release.

Which W enters where (``num_ws = 2 log2(resolution) - 2``): the index advances by one per convolution, and a block's
toRGB shares its w with the first convolution of the next block.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from . import ops
from .network_config import StyleGAN2Config, infer_config
from .ops import Dense

__all__ = [
    "MappingNetwork",
    "NoiseMode",
    "StyleGAN2Config",
    "StyleGAN2Network",
    "SynthesisNetwork",
    "channel_schedule",
    "infer_config",
]

NoiseMode = Literal["const", "none", "random"]


def channel_schedule(resolution: int, channel_base: int, channel_max: int) -> tuple[int, ...]:
    """``min(channel_base / r, channel_max)`` for r = 4, 8, ..., resolution."""
    return tuple(min(channel_base // r, channel_max) for r in (4 << i for i in range(int(math.log2(resolution)) - 1)))


class MappingNetwork(nn.Module):
    """f: Z (and classes, instance features) -> W. Keys ``embed`` or ``concat``, ``embed_feats``, ``fc0`` ..., ``w_avg``."""

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        in_features = config.z_dim
        if config.c_dim > 0:
            width = config.c_features or config.w_dim
            self.concat = nn.Linear(config.c_dim, width, bias=False) if config.c_concat else None
            self.embed = None if config.c_concat else Dense(config.c_dim, width)
            in_features += width
        if config.h_dim > 0:
            self.embed_feats = Dense(config.h_dim, config.h_features or config.w_dim)
            in_features += config.h_features or config.w_dim
        hidden = config.mapping_width or config.w_dim
        widths = [in_features] + [hidden] * (config.num_mapping_layers - 1) + [config.w_dim]
        for i in range(config.num_mapping_layers):
            layer = Dense(
                widths[i],
                widths[i + 1],
                lr_multiplier=config.mapping_lr_multiplier,
                activation=True,
                nonlinearity=config.mapping_activation,
            )
            self.add_module(f"fc{i}", layer)
        layers = (config.num_ws,) if config.mean_per_layer else ()
        self.register_buffer("w_avg", torch.zeros(*layers, config.w_dim))

    def forward(self, z: Tensor, c: Tensor | None = None, h: Tensor | None = None) -> Tensor:
        """Shapes: z ``(B, z_dim)``, c ``(B, c_dim)`` one-hot or soft, h ``(B, h_dim)``, each None or ignored where the
        network has no such condition -> w ``(B, w_dim)``.
        """
        x = z.float()
        conditions = []
        if self.config.c_dim > 0:
            assert c is not None, "a conditional mapping network needs class vectors"
            if self.concat is not None:
                x = torch.cat([x, self.concat(c.float())], dim=1)
            elif self.embed is not None:
                conditions.append(self.embed(c.float()))
        if self.config.h_dim > 0:
            assert h is not None, "a mapping network with instance features needs them"
            conditions.append(self.embed_feats(h.float()))
        if self.config.normalize_latents:
            x = ops.second_moment_normalise(x)
        if conditions:  # normalised together, classes first
            x = torch.cat([x, ops.second_moment_normalise(torch.cat(conditions, dim=1))], dim=1)
        for i in range(self.config.num_mapping_layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution (doubling the resolution if ``up``), noise, bias, activation."""

    resample_filter: Tensor
    noise_const: Tensor
    energy: Tensor | None  # of the kernels, once frozen

    def __init__(
        self, config: StyleGAN2Config, in_channels: int, out_channels: int, resolution: int, *, up: bool
    ) -> None:
        super().__init__()
        self.up = up
        self.use_noise = config.use_noise
        self.conv_clamp = config.conv_clamp
        self.activation, self.gain = ops.ACTIVATIONS[config.activation]
        self.affine = Dense(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", ops.up_kernel(config.resample_taps))
        self.register_buffer("energy", None, persistent=False)
        if config.use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def freeze(self) -> None:
        """Keep what depends on the weight alone."""
        self.energy = ops.kernel_energy(self.weight).detach()

    def forward(
        self, x: Tensor, w: Tensor, noise_mode: NoiseMode, gain: float = 1.0, noise: Tensor | None = None
    ) -> Tensor:
        """Shapes: x ``(B, I, H, W)``, w ``(B, w_dim)`` -> ``(B, O, H, W)``, or ``2H, 2W`` with ``up``.

        ``noise`` ``(B, 1, H, W)``, of the output's size, is added as it is, instead of the network's own.

        Once frozen, and while no gradient is recorded, x is overwritten: allocating the activations anew for every
        operation takes more time on a CPU than the operations.
        """
        in_place = self.energy is not None and not torch.is_grad_enabled()
        x = ops.modulated_conv(
            x,
            self.weight,
            self.affine(w),
            demodulate=True,
            up_fir=self.resample_filter if self.up else None,
            energy=self.energy,
            in_place=in_place,
        )
        if noise is None and self.use_noise and noise_mode != "none":
            if noise_mode == "const":
                noise = self.noise_const[None, None]
            else:
                noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device)
            noise = noise * self.noise_strength
        if noise is not None:
            noise = noise.to(x.dtype)
            x = x.add_(noise) if in_place else x + noise
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return ops.biased_activation(x, self.bias, self.activation, self.gain * gain, clamp, in_place=in_place)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to image channels, not demodulated, no activation."""

    def __init__(self, config: StyleGAN2Config, in_channels: int) -> None:
        super().__init__()
        self.conv_clamp = config.conv_clamp
        self.frozen = False
        self.style_gain = 1 / math.sqrt(in_channels)
        self.affine = Dense(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))

    def freeze(self) -> None:
        """Take the way that is fast without gradients of the weights."""
        self.frozen = True

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Shapes: x ``(B, I, H, W)``, w ``(B, w_dim)`` -> ``(B, img_channels, H, W)``."""
        styles = self.affine(w) * self.style_gain
        if self.frozen:
            x = ops.modulated_sum(x, self.weight, styles)
        else:
            x = ops.modulated_conv(x, self.weight, styles, demodulate=False)
        x = x + self.bias.to(x.dtype)[None, :, None, None]
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class ResnetSkip(nn.Module):
    """The 1x1 upsampling shortcut of the ``resnet`` architecture."""

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.register_buffer("resample_filter", ops.up_kernel(config.resample_taps))

    def forward(self, x: Tensor, gain: float) -> Tensor:
        """Shape: ``(B, I, H, W) -> (B, O, 2H, 2W)``."""
        scale = gain / math.sqrt(self.weight.shape[1])
        x = nn.functional.conv2d(x, (self.weight * scale).to(x.dtype))
        return ops.upsample2(x, self.resample_filter)


class SynthesisBlock(nn.Module):
    """One resolution: a constant (4x4) or an upsampling layer, a layer, and toRGB where the architecture has one."""

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, index: int) -> None:
        super().__init__()
        self.architecture = config.architecture
        resolution, out_channels = config.resolutions[index], config.channels[index]
        self.first = index == 0
        self.has_rgb = config.architecture == "skip" or resolution == config.resolution
        self.register_buffer("resample_filter", ops.up_kernel(config.resample_taps))
        if self.first:
            const_channels = config.const_channels or out_channels
            self.const = nn.Parameter(torch.randn(const_channels, 4, 4))
        else:
            in_channels = config.channels[index - 1]
            self.conv0 = SynthesisLayer(config, in_channels, out_channels, resolution, up=True)
            if config.architecture == "resnet":
                self.skip = ResnetSkip(config, in_channels, out_channels)
        conv1_inputs = self.const.shape[0] if self.first else out_channels
        self.conv1 = SynthesisLayer(config, conv1_inputs, out_channels, resolution, up=False)
        if self.has_rgb:
            self.torgb = ToRGB(config, out_channels)

    def forward(
        self, x: Tensor, image: Tensor | None, ws: list[Tensor], noise_mode: NoiseMode
    ) -> tuple[Tensor, Tensor | None]:
        """``ws``: the block's w inputs in the order conv0 (not in the first block), conv1, toRGB."""
        if self.first:
            x = self.const.to(x.dtype).repeat(ws[0].shape[0], 1, 1, 1).contiguous(memory_format=torch.channels_last)
            x = self.conv1(x, ws[0], noise_mode)
        elif self.architecture == "resnet":
            shortcut = self.skip(x, math.sqrt(0.5))
            x = self.conv0(x, ws[0], noise_mode)
            x = shortcut + self.conv1(x, ws[1], noise_mode, gain=math.sqrt(0.5))
        else:
            x = self.conv1(self.conv0(x, ws[0], noise_mode), ws[1], noise_mode)
        if image is not None:
            image = ops.upsample2(image, self.resample_filter)
        if self.has_rgb:
            rgb = self.torgb(x, ws[-1]).float()
            image = rgb if image is None else image + rgb
        return x, image


class SynthesisNetwork(nn.Module):
    """g: per-layer W -> image. Keys ``b4``, ``b8``, ... ``dtype`` is that of the activations, not of the weights."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.dtype = torch.float32
        for i, resolution in enumerate(config.resolutions):
            self.add_module(f"b{resolution}", SynthesisBlock(config, i))

    def forward(self, ws: Tensor, noise_mode: NoiseMode = "const") -> Tensor:
        """Shape: ``(B, num_ws, w_dim) -> (B, img_channels, resolution, resolution)``, float32, not clamped."""
        per_layer = list(ws.float().unbind(dim=1))
        x = torch.empty(0, dtype=self.dtype, device=ws.device)  # the first block starts from its constant
        image: Tensor | None = None
        for i, resolution in enumerate(self.config.resolutions):
            inputs = per_layer[:2] if i == 0 else per_layer[2 * i - 1 : 2 * i + 2]
            x, image = self.get_submodule(f"b{resolution}")(x, image, inputs, noise_mode)
        assert image is not None
        return image


class StyleGAN2Network(nn.Module):
    """Mapping and synthesis under the ADA release's names ``mapping.*`` and ``synthesis.*``."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)

    def freeze(self) -> None:
        """Prepare for inference only: gradients off, and what depends on the weights alone computed once."""
        self.eval().requires_grad_(False)
        for module in self.modules():
            if isinstance(module, Dense | SynthesisLayer | ToRGB):
                module.freeze()

    def broadcast(self, w: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """One w per layer, the first ``cutoff`` (all if None) pulled towards the mean by ``psi``.

        Shape: ``(B, w_dim) -> (B, num_ws, w_dim)``.
        """
        ws = w[:, None].expand(-1, self.config.num_ws, -1)
        if psi == 1.0:
            return ws
        if self.config.mean_per_layer:
            truncated = self.mapping.w_avg.lerp(ws, psi)
        else:
            truncated = self.mapping.w_avg.lerp(w, psi)[:, None].expand(-1, self.config.num_ws, -1)
        if cutoff is None:
            return truncated
        return torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)

    def forward(self, z: Tensor, c: Tensor | None = None, noise_mode: NoiseMode = "const") -> Tensor:
        """Shapes: z ``(B, z_dim)``, c ``(B, c_dim)`` or None -> image ``(B, img_channels, resolution, resolution)``."""
        return self.synthesis(self.broadcast(self.mapping(z, c)), noise_mode)
