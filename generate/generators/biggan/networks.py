"""The generator of BigGAN (Brock et al. 2019, appendix B, figure 15) for inference, with all constants folded in.

Differences from the published graph: weights are divided by their spectral norms once; batch norm's statistics, the gains' and
biases' linear layers and the bias of the convolution in front of it are one affine map of the condition; nearest upsampling and
the 3x3 convolution behind it are one transposed convolution (4 instead of 9 products per output); the skip's 1x1
convolution runs before the upsampling, with which it commutes; the first feature map is made in channels-last order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import GeneratorError

from ..base import Checkpoint, LatentSpec, Law
from .state import OUTPUT_BN_EPS, NetworkSizes, Settings, check_state, infer_layout, naming, normalised


class Frozen(nn.Module):
    """A module whose weights are buffers: nothing to train."""

    def put(self, **tensors: Tensor) -> None:
        """Register each tensor under its name, convolutions' kernels in channels-last order."""
        for name, tensor in tensors.items():
            order = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
            self.register_buffer(name, tensor.contiguous(memory_format=order))


def upsampling_kernel(weight: Tensor) -> Tensor:
    """Nearest x2 and a 3x3 convolution as one transposed convolution of stride 2 and padding 1.

    Each output sees 2x2 inputs; taps of the 3x3 kernel that fall on copies of the same input are added.
    Shape: ``(out, in, 3, 3) -> (in, out, 4, 4)``.
    """
    for dim in (2, 3):
        w0, w1, w2 = weight.unbind(dim)
        weight = torch.stack([w2, w1 + w2, w0 + w1, w0], dim)
    return weight.transpose(0, 1)


def add_upsampled(x: Tensor, low: Tensor) -> Tensor:
    """``x + nearest_x2(low)``, in place. Shapes: ``(B, C, 2H, 2W)``, ``(B, C, H, W)``."""
    height, width = low.shape[2:]
    x.unflatten(3, (width, 2)).unflatten(2, (height, 2)).add_(low[:, :, :, None, :, None])
    return x


def affine_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``relu(x * scale + shift)``. Shapes: x ``(B, C, H, W)``, scale and shift ``(B or 1, C)``."""
    return (x * scale[:, :, None, None]).add_(shift[:, :, None, None]).relu_()


class Attention(Frozen):
    """Self-attention over positions, keys and values max-pooled 2x2 (Zhang et al. 2019); no 1/sqrt(d).

    ``gamma`` is folded into the last convolution.
    """

    into: Tensor
    out: Tensor

    def __init__(self, state: Mapping[str, Tensor], name: str, sn_eps: float) -> None:
        super().__init__()
        theta, phi, g, o = (normalised(state, f"{name}.{part}", sn_eps) for part in ("theta", "phi", "g", "o"))
        self.keys, self.values = theta.shape[0], g.shape[0]
        self.put(into=torch.cat([theta, phi, g]), out=o * state[f"{name}.gamma"])

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, C, H, W) -> (B, C, H, W)``."""
        query, rest = F.conv2d(x, self.into).split([self.keys, self.keys + self.values], dim=1)
        rest = F.max_pool2d(rest, 2)
        q, kv = (part.flatten(2).transpose(1, 2)[:, None] for part in (query, rest))
        k, v = kv.split([self.keys, self.values], dim=3)
        if (
            x.device.type == "cpu"
        ):  # its fused kernel wants heads of one size: padded, it takes half the time of the unfused
            widest = max(self.keys, self.values)
            q, k, v = (F.pad(part, (0, widest - part.shape[3])) for part in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0, :, : self.values]
        return x + F.conv2d(seen.transpose(1, 2).unflatten(2, x.shape[2:]), self.out)


class Block(Frozen):
    """BN-ReLU-(x2)-conv, BN-ReLU-conv, plus a 1x1 skip; BN's scales and shifts are given."""

    conv1: Tensor
    conv2: Tensor
    bias: Tensor
    skip: Tensor

    def __init__(self, state: Mapping[str, Tensor], name: str, sn_eps: float) -> None:
        super().__init__()
        self.put(
            conv1=upsampling_kernel(normalised(state, f"{name}.conv1", sn_eps)),
            conv2=normalised(state, f"{name}.conv2", sn_eps),
            bias=state[f"{name}.conv2.bias"] + state[f"{name}.conv_sc.bias"],
            skip=normalised(state, f"{name}.conv_sc", sn_eps),
        )

    def forward(self, x: Tensor, affine: Tensor) -> Tensor:
        """Shapes: x ``(B, C, H, W)``, affine ``(B or 1, 2C + 2C')`` -> ``(B, C', 2H, 2W)``."""
        c_in, c_out = self.conv1.shape[:2]
        scale1, shift1, scale2, shift2 = affine.split([c_in, c_in, c_out, c_out], dim=1)
        h = F.conv_transpose2d(affine_relu(x, scale1, shift1), self.conv1, stride=2, padding=1)
        h = F.conv2d(affine_relu(h, scale2, shift2), self.conv2, self.bias, padding=1)
        return add_upsampled(h, F.conv2d(x, self.skip))


def affine_of_condition(
    state: Mapping[str, Tensor], name: str, settings: Settings, shared: bool
) -> tuple[Tensor, Tensor]:
    """A block's scales and shifts as one linear map of its condition, in the order in which ``Block`` wants them.

    Shapes: -> ``(2C + 2C', condition)``, ``(2C + 2C',)``.
    """
    weights, constants = [], []
    for bn in ("bn1", "bn2"):
        gain, bias = (
            normalised(state, f"{name}.{bn}.{part}", settings.sn_eps)
            if shared
            else state[f"{name}.{bn}.{part}.weight"].t()
            for part in ("gain", "bias")
        )
        mean, var = (state[f"{name}.{bn}.stored_{part}"].double() for part in ("mean", "var"))
        if bn == "bn2":  # the convolution in front of it goes without its bias
            mean = mean - state[f"{name}.conv1.bias"]
        scale = torch.rsqrt(var + settings.bn_eps)
        weights += [scale[:, None] * gain, bias - (mean * scale)[:, None] * gain]
        constants += [scale, -mean * scale]
    return torch.cat(weights).float(), torch.cat(constants).float()


class BigGANNetwork(Frozen):
    """z and a condition -> images. The condition is a class's embedding, an instance's, or both, one after the other."""

    classes: Tensor
    features: Tensor
    features_bias: Tensor
    linear: Tensor
    linear_bias: Tensor
    condition: Tensor
    condition_bias: Tensor
    output_scale: Tensor
    output_shift: Tensor
    output: Tensor
    output_bias: Tensor

    def __init__(self, state: Mapping[str, Tensor], settings: Settings) -> None:
        """From the tensors and config of a checkpoint. Raises Misfit if they do not fit together."""
        super().__init__()
        layout, settings = infer_layout(state, settings)
        check_state(state, layout)
        self.layout: NetworkSizes = layout
        eps = settings.sn_eps
        if layout.num_classes:
            self.put(classes=state["shared.weight"] if layout.shared_classes else torch.eye(layout.num_classes))
        if layout.feature_dim:
            self.put(features=normalised(state, "shared_feat", eps), features_bias=state["shared_feat.bias"])
        side = (layout.channels[0], layout.bottom, layout.bottom)
        self.put(
            linear=normalised(state, "linear", eps).unflatten(0, side).permute(1, 2, 0, 3).flatten(0, 2),
            linear_bias=state["linear.bias"].unflatten(0, side).permute(1, 2, 0).flatten(),
        )
        self.blocks = nn.ModuleList(Block(state, f"blocks.{i}.0", eps) for i in range(layout.blocks))
        self.attentions = nn.ModuleDict({str(i): Attention(state, f"blocks.{i}.1", eps) for i in layout.attention})
        shared = layout.shared_classes or layout.feature_dim > 0
        maps = [affine_of_condition(state, f"blocks.{i}.0", settings, shared) for i in range(layout.blocks)]
        self.put(
            condition=torch.cat([weight[:, : layout.condition_width] for weight, _ in maps]),
            condition_bias=torch.cat([bias for _, bias in maps]),
        )
        if layout.hierarchical:
            self.put(**{f"chunk{i}": weight[:, layout.condition_width :].t() for i, (weight, _) in enumerate(maps)})
        self.sizes = [len(bias) for _, bias in maps]
        scale = torch.rsqrt(state["output_layer.0.stored_var"] + OUTPUT_BN_EPS) * state["output_layer.0.gain"]
        self.put(
            output_scale=scale[None],
            output_shift=(state["output_layer.0.bias"] - state["output_layer.0.stored_mean"] * scale)[None],
            output=normalised(state, "output_layer.2", eps),
            output_bias=state["output_layer.2.bias"],
        )

    def embed_classes(self, y: Tensor) -> Tensor:
        """Shapes: ``(B,)`` int64 classes or ``(B, num_classes)`` soft classes -> ``(B, class_width)``."""
        return self.classes[y] if y.dim() == 1 else y.to(self.classes.dtype) @ self.classes

    def embed_features(self, features: Tensor) -> Tensor:
        """Shape: ``(B, feature_dim) -> (B, feature_width)``."""
        return F.linear(features, self.features, self.features_bias)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Shapes: z ``(B, dim)``, condition ``(B or 1, condition_width)`` -> ``(B, 3, H, W)`` in (-1, 1)."""
        layout = self.layout
        chunks = z.to(self.linear.dtype).split(layout.z_width, dim=1)
        affines = F.linear(condition.to(self.linear.dtype), self.condition, self.condition_bias).split(
            self.sizes, dim=1
        )
        h = F.linear(chunks[0], self.linear, self.linear_bias)
        h = h.unflatten(1, (layout.bottom, layout.bottom, layout.channels[0])).permute(0, 3, 1, 2)
        for i, block in enumerate(self.blocks):
            affine = affines[i]
            if layout.hierarchical:
                affine = torch.addmm(affine, chunks[i + 1], self.get_buffer(f"chunk{i}"))
            h = block(h, affine)
            if i in layout.attention:
                h = self.attentions[str(i)](h)
        h = affine_relu(h, self.output_scale, self.output_shift)
        return torch.tanh(F.conv2d(h, self.output, self.output_bias, padding=1))


class BigGANBase:
    """A frozen network with its latent law and its checks."""

    law: Law = "normal"
    truncation: float | None = None

    def __init__(self, network: BigGANNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.layout = network.layout
        chunks = self.layout.chunks
        self.latent = LatentSpec(dim=sum(chunks), chunks=chunks, law=self.law, truncation=self.truncation)
        self.image_shape = (self.layout.resolution, self.layout.resolution)

    def check_latents(self, z: Tensor) -> None:
        """Raises GeneratorError for z of a wrong shape. Extra components of a chunked z are ignored, as in the original."""
        wide_enough = z.dim() == 2 and (
            z.shape[1] >= self.latent.dim if self.layout.hierarchical else z.shape[1] == self.latent.dim
        )
        if not wide_enough:
            raise GeneratorError(f"z has shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")


def check_choices(y: Tensor, batch: int, count: int, what: str) -> None:
    """Raises GeneratorError unless y is ``(B,)`` integers below count, or ``(B, count)`` weights."""
    one_each = y.dim() == 1 and not y.is_floating_point()
    if y.shape[0] != batch or not (one_each or tuple(y.shape[1:]) == (count,)):
        raise GeneratorError(
            f"y has shape {tuple(y.shape)} and dtype {y.dtype}, wanted ({batch},) int64 {what} or ({batch}, {count}) weights"
        )
    # Elsewhere than on the CPU, a look at the values would wait for the device.
    if one_each and y.device.type == "cpu" and batch and (int(y.min()) < 0 or int(y.max()) >= count):
        raise GeneratorError(f"y is {int(y.min())} to {int(y.max())}, wanted {what} from 0 to {count - 1}")


def open_network(checkpoint: Checkpoint, device: str | torch.device) -> BigGANNetwork:
    """Raises WeightsError if tensors and config of a checkpoint do not fit together."""
    with naming("weights"):
        return BigGANNetwork(checkpoint.tensors, Settings.from_json(checkpoint.config)).to(device)
