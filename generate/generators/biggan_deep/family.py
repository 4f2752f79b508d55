"""BigGAN-deep (Brock et al. 2019) as Hugging Face publishes it: ``pytorch_model.bin`` with a config beside it.

The truncation is fixed, so everything that depends on neither z nor y is computed once: spectral norms, batch
statistics, biases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import GeneratorError, WeightsError

from ..base import Checkpoint, Generator, LatentSpec
from ..found_network import find_network
from .structure import EPS, Block, Structure, compare, read_config, read_structure

RGB = 3  # the last layer makes `width` channels, of which the first three are the image


def normed(tensors: Mapping[str, Tensor], prefix: str) -> Tensor:
    """``W / sigma`` with ``sigma = u^T W v`` of the stored u and v, as spectral normalisation is at test time; float64."""
    weight = tensors[prefix + "weight_orig"].double()
    matrix = weight.flatten(1)
    return weight / (tensors[prefix + "weight_u"].double() @ (matrix @ tensors[prefix + "weight_v"].double()))


def upsampling(weight: Tensor) -> Tensor:
    """The 4x4 kernel of a transposed convolution of stride 2 that equals nearest-neighbour upsampling and a 3x3 convolution.

    It costs 4/9 of the multiplications. Shape: ``(O, I, 3, 3) -> (I, O, 4, 4)``.
    """
    taps = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # which of the 3 taps each of the 4 sums
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


def _image_layout(weight: Tensor) -> Tensor:
    return weight.float().contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Four convolutions (1, 3, 3, 1), each after a conditional batch norm and a ReLU; the skip drops channels."""

    conv_0: Tensor
    conv_1: Tensor
    conv_2: Tensor
    conv_3: Tensor
    bias: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str, block: Block) -> None:
        super().__init__()
        self.out_channels, self.upsample = block.out_channels, block.upsample
        weights = [normed(tensors, f"{prefix}conv_{i}.") for i in range(4)]
        if block.upsample:
            weights[1] = upsampling(weights[1])
        for i, weight in enumerate(weights):
            self.register_buffer(f"conv_{i}", _image_layout(weight))
        self.register_buffer("bias", tensors[f"{prefix}conv_3.bias"].clone())  # the others are in the norms that follow

    def forward(self, x: Tensor, gains: list[Tensor], shifts: list[Tensor]) -> Tensor:
        """Shapes: x ``(B, I, H, W)``, gains and shifts of the four norms ``(B, C, 1, 1)`` -> ``(B, O, H or 2H, ...)``."""
        h = F.conv2d(_norm_relu(x, gains[0], shifts[0]), self.conv_0)
        h = _norm_relu(h, gains[1], shifts[1])
        convolve = F.conv_transpose2d if self.upsample else F.conv2d
        h = convolve(h, self.conv_1, stride=2 if self.upsample else 1, padding=1)
        h = F.conv2d(_norm_relu(h, gains[2], shifts[2]), self.conv_2, padding=1)
        h = F.conv2d(_norm_relu(h, gains[3], shifts[3]), self.conv_3, self.bias)
        x = x[:, : self.out_channels]
        if not self.upsample:
            return h.add_(x)
        # The skip, doubled by broadcasting in place: a tenth of the time of an upsampled copy and a sum, on a CPU.
        h.unflatten(3, (x.shape[3], 2)).unflatten(2, (x.shape[2], 2)).add_(x[:, :, :, None, :, None])
        return h


def _norm_relu(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, x, gain).relu_()


class Attention(nn.Module):
    """Self-attention over pixels; keys and values are max-pooled 2x2 (Zhang et al. 2019), scores are not scaled."""

    project: Tensor
    output: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str, channels: int) -> None:
        super().__init__()
        self.sizes = (channels // 8, channels // 8, channels // 2)
        parts = [normed(tensors, f"{prefix}snconv1x1_{name}.") for name in ("theta", "phi", "g")]
        self.register_buffer("project", _image_layout(torch.cat(parts)))
        gamma = tensors[f"{prefix}gamma"].double()
        self.register_buffer("output", _image_layout(normed(tensors, f"{prefix}snconv1x1_o_conv.") * gamma))

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, C, H, W)``, kept."""
        queries, rest = F.conv2d(x, self.project).split([self.sizes[0], sum(self.sizes[1:])], dim=1)
        keys, values = F.max_pool2d(rest, 2).split(self.sizes[1:], dim=1)
        attended = F.scaled_dot_product_attention(_rows(queries), _rows(keys), _rows(values), scale=1.0)
        attended = attended[:, 0].transpose(1, 2)
        return x + F.conv2d(attended.reshape(len(x), -1, *x.shape[2:]), self.output)


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)[:, None]  # (B, 1, pixels, channels)


class BigGANDeepNetwork(nn.Module):
    """z and a class embedding to an image; all conditional norms take their gains and shifts from one matrix product."""

    embeddings: Tensor
    stem_weight: Tensor
    stem_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    gain: Tensor
    shift: Tensor
    rgb_weight: Tensor
    rgb_bias: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], structure: Structure, truncation: float) -> None:
        super().__init__()
        self.structure = structure
        self.register_buffer("embeddings", tensors["embeddings.weight"].t().contiguous())
        self.register_buffer("stem_weight", normed(tensors, "generator.gen_z.").float())
        self.register_buffer("stem_bias", tensors["generator.gen_z.bias"].clone())
        self.layers = nn.ModuleList()
        self.norm_sizes: list[int] = []  # of the blocks' norms in order: C gains and C shifts each
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for index, layer in structure.layers.items():
            prefix = f"generator.layers.{index}."
            if not isinstance(layer, Block):
                self.layers.append(Attention(tensors, prefix, layer))
                continue
            self.layers.append(ResidualBlock(tensors, prefix, layer))
            for i in range(4):
                before = tensors[f"{prefix}conv_{i - 1}.bias"] if i else None
                weight, bias = conditional_norm(tensors, f"{prefix}bn_{i}.", truncation, structure.eps, before)
                weights.append(weight.float())
                biases.append(bias.float())
                self.norm_sizes += [len(bias) // 2] * 2
        self.register_buffer("norm_weight", torch.cat(weights))
        self.register_buffer("norm_bias", torch.cat(biases))
        gain, shift = unconditional_norm(tensors, "generator.bn.", truncation, structure.eps)
        self.register_buffer("gain", gain.float()[:, None, None])
        self.register_buffer("shift", shift.float()[:, None, None])
        self.register_buffer("rgb_weight", _image_layout(normed(tensors, "generator.conv_to_rgb.")[:RGB]))
        self.register_buffer("rgb_bias", tensors["generator.conv_to_rgb.bias"][:RGB].clone())

    def forward(self, z: Tensor, embedding: Tensor) -> Tensor:
        """Shapes: z ``(B, z_dim)``, embedding ``(B, class_dim)`` -> ``(B, 3, H, W)`` in [-1, 1]."""
        condition = torch.cat([z, embedding], dim=1)
        # The stem's rows are in the order height, width, channels: the layout that convolutions like best.
        x = F.linear(condition, self.stem_weight, self.stem_bias).view(len(z), 4, 4, -1).permute(0, 3, 1, 2)
        norms = F.linear(condition, self.norm_weight, self.norm_bias)[:, :, None, None].split(self.norm_sizes, dim=1)
        used = 0
        for layer in self.layers:
            if isinstance(layer, ResidualBlock):
                of_block = norms[used : used + 8]
                x = layer(x, of_block[0::2], of_block[1::2])
                used += 8
            else:
                x = layer(x)
        x = torch.addcmul(self.shift, x, self.gain).relu_()
        return torch.tanh(F.conv2d(x, self.rgb_weight, self.rgb_bias, padding=1))


FAMILY = "biggan_deep"
OPTIONS = frozenset({"truncation"})
SAMPLING_TRUNCATION = 2.0  # z is a normal redrawn outside +-2, times the truncation
WEIGHTS, CONFIG = "pytorch_model.bin", "config.json"
SIGNATURE = {"embeddings.weight", "generator.gen_z.weight_orig", "generator.conv_to_rgb.weight_orig"}


def find(folder: Path) -> Path | None:
    """``pytorch_model.bin``, or the one ``NAME-pytorch_model.bin``. Raises WeightsError if there are several of these."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    named = sorted(path for path in folder.glob(f"*-{WEIGHTS}") if path.is_file())
    if len(named) > 1:
        raise WeightsError(f"weights {folder}: several generators ({', '.join(path.name for path in named)}); name one")
    return named[0] if named else None


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. Which blocks double the resolution is in the config alone.

    Without a config it is taken to be every second one, as in all published networks.
    """
    found = find_network(content, SIGNATURE, f"weights {path}", every=True, network=network)
    if found is None:
        return None
    tensors = found.tensors
    config_path = _config_of(path)
    config = read_config(config_path) if config_path else None
    upsample = [bool(layer[0]) for layer in config["layers"]] if config else None
    eps = float(config["eps"]) if config else EPS
    try:
        structure = read_structure(tensors, upsample, eps)
    except WeightsError as error:
        raise WeightsError(f"weights {path}: {error}") from None
    if config and config_path:
        compare(config, structure, config_path)
    return Checkpoint(
        family=FAMILY,
        tensors={name: tensors[name].float() for name in structure.shapes()},
        notes=found.notes(structure.shapes()),
        config={"upsample": [block.upsample for block in structure.blocks], "eps": eps},
    )


def _config_of(path: Path) -> Path | None:
    names = [f"{path.name.removesuffix(WEIGHTS)}{CONFIG}"] if path.name.endswith(WEIGHTS) else []
    for name in (*names, f"{path.stem}-{CONFIG}", CONFIG):
        if path.with_name(name).is_file():
            return path.with_name(name)
    return None


def open_checkpoint(
    checkpoint: Checkpoint, *, device: str | torch.device = "cpu", truncation: float = 1.0
) -> Generator:
    """See ``Family.open_checkpoint``; ``truncation`` in (0, 1] chooses the batch statistics and scales the latents.

    Raises GeneratorError for a truncation outside.
    """
    if isinstance(truncation, bool) or not isinstance(truncation, (int, float)) or not 0 < truncation <= 1:
        raise GeneratorError(f"truncation {truncation!r}: BigGAN-deep has statistics for 0 < truncation <= 1")
    upsample, eps = checkpoint.config.get("upsample"), checkpoint.config.get("eps")
    if not isinstance(upsample, list) or not isinstance(eps, float):
        raise WeightsError(f"BigGAN-deep weights: config {checkpoint.config}, wanted 'upsample' and 'eps'")
    structure = read_structure(checkpoint.tensors, upsample, eps)
    network = BigGANDeepNetwork(checkpoint.tensors, structure, float(truncation))
    return BigGANDeepGenerator(network.to(device), truncation=float(truncation))


class BigGANDeepGenerator:
    """A frozen, class-conditional BigGAN-deep at one truncation, which its batch statistics and its latents' scale follow."""

    def __init__(self, network: BigGANDeepNetwork, *, truncation: float = 1.0) -> None:
        self.network = network.eval().requires_grad_(False)
        self.truncation = truncation
        structure = network.structure
        self.latent = LatentSpec(
            dim=structure.z_dim, law="truncated_normal", truncation=SAMPLING_TRUNCATION, scale=truncation
        )
        self.num_classes = structure.num_classes
        self.image_shape = (structure.resolution, structure.resolution)

    def class_embeddings(self, y: Tensor | None) -> Tensor:
        """Class indices ``(B,)`` or soft classes ``(B, num_classes)`` -> ``(B, class_dim)``.

        Raises GeneratorError for anything else, and for classes that do not exist.
        """
        wanted = f"wanted classes (B,) below {self.num_classes} or soft classes (B, {self.num_classes})"
        if y is None:
            raise GeneratorError(f"BigGAN-deep: synthesize without y, {wanted}")
        if y.dim() == 2 and y.shape[1] == self.num_classes:
            return y.to(self.network.embeddings) @ self.network.embeddings
        if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool:
            raise GeneratorError(f"BigGAN-deep: y is {y.dtype} of shape {tuple(y.shape)}, {wanted}")
        # On a GPU this would wait for all work under way, and the kernel's own check ends the process anyway.
        if y.device.type == "cpu" and len(y) and not 0 <= int(y.min()) <= int(y.max()) < self.num_classes:
            raise GeneratorError(f"BigGAN-deep: y from {int(y.min())} to {int(y.max())}, {wanted}")
        return F.embedding(y.to(self.network.embeddings.device, torch.int64), self.network.embeddings)

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``. Raises GeneratorError for z or y of another shape."""
        if z.dim() != 2 or z.shape[1] != self.latent.dim:
            raise GeneratorError(f"BigGAN-deep: latents of shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")
        embedding = self.class_embeddings(y)
        if len(embedding) != len(z):
            raise GeneratorError(f"BigGAN-deep: {len(z)} latents with {len(embedding)} classes, wanted one each")
        return self.network(z.to(embedding.dtype), embedding).float()
