"""A Residual Flow put together from a checkpoint's tensors and its list of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import layers
from .lipschitz import bounded_weight

Shape = tuple[int, int, int]


class Invertible(Protocol):
    """What every layer of a flow offers."""

    def inverse(self, y: Tensor) -> Tensor:
        """From the latents' side to the images'."""
        ...


class ResidualFlowNetwork(nn.Module):
    """The inverse of a Residual Flow (Chen et al. 2019): latents to images.

    ``config`` is what ``structure.read_structure`` makes. Raises KeyError, TypeError, ValueError or RuntimeError where
    tensors and config do not fit together.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        super().__init__()
        self.squeeze_first, padding = bool(config["squeeze_first"]), int(config["padding"])
        channels, height, width = (int(n) for n in config["image_shape"])
        factor = 2 if self.squeeze_first else 1
        self.image_size = (height * factor, width * factor)
        self.image_channels = channels // factor**2 - padding
        if self.image_channels not in (1, 3):
            raise ValueError(f"images of {self.image_channels} channels, wanted 1 or 3")
        self.factor_out = bool(config["factor_out"])
        self.latent_shapes: list[Shape] = []  # in the order in which they lie in z
        self.stages = nn.ModuleList()
        shape: Shape = (channels, height, width)
        for s, chain in enumerate(config["chains"]):
            if s and self.factor_out:
                shape = (shape[0] // 2, *shape[1:])
                self.latent_shapes.append(shape)
            stage = nn.ModuleList()
            for i, layer in enumerate(chain):
                stage.append(_build(layer, _under(tensors, f"transforms.{s}.chain.{i}."), shape, config))
                if layer == "squeeze":
                    shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
            self.stages.append(stage)
        self.latent_shapes.append(shape)
        self.latent_dim = sum(math.prod(part) for part in self.latent_shapes)

    def forward(self, z: Tensor) -> Tensor:
        """Shape: ``(B, latent_dim) -> (B, 1 or 3, H, W)``, the original's [0, 1] moved to [-1, 1], not clamped."""
        parts = [
            part.reshape(-1, *shape)
            for part, shape in zip(z.split([math.prod(s) for s in self.latent_shapes], dim=1), self.latent_shapes)
        ]
        x = parts.pop()
        for s in reversed(range(len(self.stages))):
            for layer in reversed(list(self.stages[s].children())):
                x = cast(Invertible, layer).inverse(x)
            if s and self.factor_out:
                x = torch.cat([x, parts.pop()], dim=1)
        if self.squeeze_first:
            x = F.pixel_shuffle(x, 2)
        return x[:, : self.image_channels]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _build(layer: Any, tensors: dict[str, Tensor], shape: Shape, config: Mapping[str, Any]) -> nn.Module:
    if layer == "actnorm":
        return layers.ActNorm(tensors["weight"], tensors["bias"], shape)
    if layer == "mixing":
        return layers.Mixing(tensors["weight"], shape)
    if layer == "squeeze":
        return layers.Squeeze()
    if not isinstance(layer, dict) or len(layer) != 1:
        raise ValueError(f"layer {layer!r}")
    ((kind, value),) = layer.items()
    if kind == "residual":
        return _residual(value, tensors, shape, config)
    if kind == "logit":
        return layers.Logit(float(value))
    if kind == "normalize":
        return layers.Normalize(*value)
    raise ValueError(f"layer {kind!r}")


def _residual(kinds: list[str], tensors: dict[str, Tensor], shape: Shape, config: Mapping[str, Any]) -> nn.Module:
    parts = [_under(tensors, f"nnet.{i}.") for i in range(len(kinds))]
    for kind, part in zip(kinds, parts):
        if kind in ("conv", "linear"):
            part["weight"] = bounded_weight(
                part["weight"],
                part["u"],
                part["v"],
                size=shape[1:],
                coeff=float(config["coeff"]),
                iterations=config["iterations"],
                atol=config["atol"],
                rtol=config["rtol"],
            )
    return layers.Residual(layers.residual_branch(kinds, parts))
