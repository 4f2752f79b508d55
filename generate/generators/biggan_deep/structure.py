"""The shape of a Hugging Face BigGAN-deep, read off its tensors and its config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from genrep.errors import WeightsError
from genrep.untrusted import read_object

LAYER = re.compile(r"generator\.layers\.(\d+)\.(.+)")
ATTENTION = ("theta", "phi", "g", "o_conv")
EPS = 1e-4  # of all published networks
MAX_LAYERS = 64


@dataclass(frozen=True, kw_only=True)
class Block:
    """One residual block: its place in ``generator.layers`` and its widths."""

    index: int
    in_channels: int
    mid_channels: int
    out_channels: int
    upsample: bool


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Everything that the network is built from, except the values of its tensors."""

    z_dim: int
    class_dim: int
    num_classes: int
    num_stats: int  # rows of batch statistics, for truncations 0, ..., 1
    width: int  # channels before the image ("ch")
    blocks: tuple[Block, ...]
    attention: tuple[int, ...]  # places of attention in generator.layers
    eps: float

    @property
    def condition_dim(self) -> int:
        """Size of latent and class embedding together."""
        return self.z_dim + self.class_dim

    @property
    def resolution(self) -> int:
        """Height and width of the image."""
        return 4 * 2 ** sum(block.upsample for block in self.blocks)

    @property
    def layers(self) -> dict[int, Block | int]:
        """By place: a block, or the channels of an attention layer."""
        layers: dict[int, Block | int] = {block.index: block for block in self.blocks}
        for index in self.attention:
            following = next((block.in_channels for block in self.blocks if block.index > index), self.width)
            layers[index] = following
        return dict(sorted(layers.items()))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the published file of such a network holds."""
        first = self.blocks[0].in_channels
        shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (self.class_dim, self.num_classes)}
        shapes |= _normed("generator.gen_z.", (16 * first, self.condition_dim), bias=True)
        for index, layer in self.layers.items():
            prefix = f"generator.layers.{index}."
            shapes |= self._block(prefix, layer) if isinstance(layer, Block) else _attention(prefix, layer)
        shapes |= {f"generator.bn.{name}": (self.width,) for name in ("weight", "bias")}
        shapes |= {f"generator.bn.running_{name}": (self.num_stats, self.width) for name in ("means", "vars")}
        return shapes | _normed("generator.conv_to_rgb.", (self.width, self.width, 3, 3), bias=True)

    def _block(self, prefix: str, block: Block) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        mid = block.mid_channels
        ends = [(block.in_channels, mid, 1), (mid, mid, 3), (mid, mid, 3), (mid, block.out_channels, 1)]
        for i, (in_channels, out_channels, k) in enumerate(ends):
            for name in ("scale", "offset"):
                shapes |= _normed(f"{prefix}bn_{i}.{name}.", (in_channels, self.condition_dim))
            shapes |= {f"{prefix}bn_{i}.running_{name}": (self.num_stats, in_channels) for name in ("means", "vars")}
            shapes |= _normed(f"{prefix}conv_{i}.", (out_channels, in_channels, k, k), bias=True)
        return shapes


def _normed(prefix: str, shape: tuple[int, ...], *, bias: bool = False) -> dict[str, tuple[int, ...]]:
    fan_in = 1
    for n in shape[1:]:
        fan_in *= n
    shapes = {prefix + "weight_orig": shape, prefix + "weight_u": shape[:1], prefix + "weight_v": (fan_in,)}
    return shapes | ({prefix + "bias": shape[:1]} if bias else {})


def _attention(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    eighth, half = channels // 8, channels // 2
    sizes = dict(zip(ATTENTION, ((eighth, channels), (eighth, channels), (half, channels), (channels, half))))
    shapes: dict[str, tuple[int, ...]] = {prefix + "gamma": (1,)}
    for name, (out_channels, in_channels) in sizes.items():
        shapes |= _normed(f"{prefix}snconv1x1_{name}.", (out_channels, in_channels, 1, 1))
    return shapes


def read_structure(tensors: Mapping[str, Tensor], upsample: list[bool] | None, eps: float) -> Structure:
    """The structure of a state dict; ``upsample`` (per block) and ``eps`` leave no trace in it.

    ``upsample=None`` means the published pattern: every second block. Raises WeightsError if a tensor is missing or of
    another shape than the others imply.
    """
    places: dict[int, set[str]] = {}
    for key in tensors:
        if match := LAYER.fullmatch(key):
            places.setdefault(int(match[1]), set()).add(match[2])
    if not places or len(places) > MAX_LAYERS:
        raise WeightsError(f"BigGAN-deep weights: {len(places)} layers, wanted 1 to {MAX_LAYERS}")
    attention = tuple(sorted(i for i, names in places.items() if any(n.startswith("snconv1x1_") for n in names)))
    indices = sorted(set(places) - set(attention))
    if upsample is None:
        upsample = [i % 2 == 1 for i in range(len(indices))]
    if len(upsample) != len(indices):
        raise WeightsError(f"BigGAN-deep weights: {len(indices)} blocks, but its config has {len(upsample)}")
    embed, gen_z = _shape(tensors, "embeddings.weight", 2), _shape(tensors, "generator.gen_z.weight_orig", 2)
    structure = Structure(
        z_dim=gen_z[1] - embed[0],
        class_dim=embed[0],
        num_classes=embed[1],
        num_stats=_shape(tensors, "generator.bn.running_means", 2)[0],
        width=_shape(tensors, "generator.bn.weight", 1)[0],
        blocks=tuple(_block(tensors, index, up) for index, up in zip(indices, upsample)),
        attention=attention,
        eps=eps,
    )
    _check(structure, tensors)
    return structure


def _shape(tensors: Mapping[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    if name not in tensors or tensors[name].dim() != dims:
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        raise WeightsError(f"BigGAN-deep weights: {name} is {found}, wanted a tensor of {dims} dimensions")
    return tuple(tensors[name].shape)


def _block(tensors: Mapping[str, Tensor], index: int, upsample: bool) -> Block:
    first = _shape(tensors, f"generator.layers.{index}.conv_0.weight_orig", 4)
    last = _shape(tensors, f"generator.layers.{index}.conv_3.weight_orig", 4)
    return Block(
        index=index, in_channels=first[1], mid_channels=first[0], out_channels=last[0], upsample=bool(upsample)
    )


def _check(structure: Structure, tensors: Mapping[str, Tensor]) -> None:
    for name, wanted in structure.shapes().items():
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        if found != wanted:
            raise WeightsError(f"BigGAN-deep weights: {name} is {found}, wanted shape {wanted}")
    channels = structure.blocks[0].in_channels
    for block in structure.blocks:
        if block.in_channels != channels or block.out_channels not in (channels, channels // 2):
            raise WeightsError(
                f"BigGAN-deep weights: block {block.index} has {block.in_channels} -> {block.out_channels} channels, "
                f"wanted {channels} -> {channels} or {channels // 2}"
            )
        channels = block.out_channels
    if channels != structure.width or structure.width < 3 or structure.z_dim < 1 or structure.num_stats < 2:
        raise WeightsError(
            f"BigGAN-deep weights: {channels} channels before an output layer of {structure.width}, "
            f"z of {structure.z_dim}, {structure.num_stats} statistics: not a generator"
        )


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object of a config file. Raises WeightsError if it is not that of a BigGAN-deep."""
    config = read_object(path, WeightsError)
    if "layers" not in config:
        raise WeightsError(f"config {path}: not the config of a BigGAN-deep: no 'layers'")
    layers = config["layers"]
    sane = isinstance(layers, list) and all(
        isinstance(layer, list) and len(layer) == 3 and all(isinstance(n, int) for n in layer) for layer in layers
    )
    if not sane:
        raise WeightsError(f"config {path}: 'layers' is not a list of [upsample, in, out]")
    eps = config.setdefault("eps", EPS)
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 < eps < 1:
        raise WeightsError(f"config {path}: eps {eps!r}, wanted a small positive number")
    return config


def compare(config: Mapping[str, Any], structure: Structure, path: Path) -> None:
    """Raise WeightsError if a config contradicts the weights beside it, so that it belongs to another file."""
    found: dict[str, Any] = {
        "layers": [
            [block.in_channels // structure.width, block.out_channels // structure.width] for block in structure.blocks
        ],
        "z_dim": structure.z_dim,
        "class_embed_dim": structure.class_dim,
        "channel_width": structure.width,
        "num_classes": structure.num_classes,
        "n_stats": structure.num_stats,
    }
    if structure.attention:
        found["attention_layer_position"] = structure.attention[0]
    for name, value in found.items():
        stated = config.get(name, value)
        if name == "layers":
            stated = [layer[1:] for layer in stated]
        if stated != value:
            raise WeightsError(f"config {path}: {name} is {stated}, but the weights have {value}")
