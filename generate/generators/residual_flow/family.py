"""Residual Flow (Chen et al. 2019): the checkpoints that its authors' training writes, and the network made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import GeneratorError, WeightsError
from genrep.state_dicts import NoSuchNetwork, as_choice
from genrep.untrusted import label

from ..base import Checkpoint, Generator, LatentSpec
from . import layers
from .structure import find_training, read_structure

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


MAX_ITERATIONS = 200


def bounded_weight(
    weight: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    size: tuple[int, int],
    coeff: float,
    iterations: int | None,
    atol: float | None,
    rtol: float | None,
) -> Tensor:
    """``W / max(1, sigma / coeff)``, where sigma is W's norm as an operator, by power iteration from the stored u and v.

    Chen et al. 2019 (Residual Flows for Invertible Generative Modeling), appendix E. The iteration runs ``iterations``
    times, or until u and v change by less than ``atol + rtol max(.)`` (root mean square). The averaged weights are not
    those that the stored u and v belong to, so it has to run before sampling; on the CPU in float32 it gives the same
    weights wherever the checkpoint is opened.

    Shapes: weight ``(O, I, k, k)`` with u ``(O H W,)`` and v ``(I H W,)`` for k > 1, else ``(O, I[, 1, 1])`` with u
    ``(O,)``, v ``(I,)``; ``size`` is (H, W). Raises RuntimeError where they do not fit, ValueError for constants that
    make no contraction or no end.
    """
    if not 0 < coeff < 1 or not 0 <= (iterations or 0) <= MAX_ITERATIONS:
        raise ValueError(
            f"coeff {coeff}, {iterations} power iterations: wanted between 0 and 1, at most {MAX_ITERATIONS}"
        )
    # Copies, because a tensor in a file's own memory need not be aligned, which products round differently for.
    weight, u, v = weight.clone(), u.clone(), v.clone()
    forward, transposed = _operator(weight, size)
    tolerance = None if iterations is not None or atol is None or rtol is None else (atol, rtol)
    for _ in range(MAX_ITERATIONS if iterations is None else iterations):
        before = u, v
        u = F.normalize(forward(v), dim=0)
        v = F.normalize(transposed(u), dim=0)
        if tolerance is not None and _settled(u, before[0], *tolerance) and _settled(v, before[1], *tolerance):
            break
    sigma = torch.dot(u, forward(v))
    return weight / (sigma / coeff).clamp_min(1.0)


def _settled(new: Tensor, old: Tensor, atol: float, rtol: float) -> bool:
    change = torch.linalg.vector_norm(new - old) / new.numel() ** 0.5
    return bool(change < atol + rtol * new.max())


def _operator(weight: Tensor, size: tuple[int, int]) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    if weight.dim() == 2 or weight.shape[-1] == 1:
        matrix = weight.flatten(1)
        return (lambda v: matrix @ v), (lambda u: matrix.t() @ u)
    padding, (out_channels, in_channels) = weight.shape[-1] // 2, weight.shape[:2]
    return (
        lambda v: F.conv2d(v.view(1, in_channels, *size), weight, padding=padding).reshape(-1),
        lambda u: F.conv_transpose2d(u.view(1, out_channels, *size), weight, padding=padding).reshape(-1),
    )


FAMILY = "residual_flow"
OPTIONS: frozenset[str] = frozenset()
WRITTEN = ("most_recent.pth", "models/most_recent.pth")  # by the authors' training, in or below its folder
PUBLISHED = "*_resflow_*.pth"
NETWORKS = ("ema", "state_dict")  # in a training's file


def find(folder: Path) -> Path | None:
    """The training's latest checkpoint, or the one published file. Raises WeightsError if there are several of these."""
    for name in WRITTEN:
        if (folder / name).is_file():
            return folder / name
    published = sorted(path for path in folder.glob(PUBLISHED) if path.is_file())
    if len(published) > 1:
        raise WeightsError(
            f"weights {folder}: several Residual Flows ({', '.join(path.name for path in published)}); name one"
        )
    return published[0] if published else None


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. The averaged weights ("ema") are taken, as for the published samples, or "state_dict"."""
    training = find_training(content)
    if training is None:
        return None
    if network not in (None, *NETWORKS):
        options = ", ".join(as_choice(str(path), name) for name in NETWORKS)
        raise NoSuchNetwork(f"weights {path}#{label(network)}: is none of its networks; wanted one of {options}")
    try:
        tensors, config = read_structure(training, averaged=network != "state_dict")
    except WeightsError as error:
        raise WeightsError(f"weights {path}: {error}") from None
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:  # RecursionError is one
        raise WeightsError(f"weights {path}: a damaged Residual Flow checkpoint ({error})") from None
    return Checkpoint(family=FAMILY, tensors=tensors, config=config)


def open_checkpoint(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> Generator:
    """See ``Family.open_checkpoint``. Bounding the weights by power iteration takes a moment."""
    return ResidualFlowGenerator.from_state(checkpoint.tensors, checkpoint.config, device=device)


class ResidualFlowGenerator:
    """A frozen Residual Flow run backwards; invertible, so a latent has as many components as the image has values."""

    def __init__(self, network: ResidualFlowNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.latent = LatentSpec(dim=network.latent_dim)
        self.num_classes = 0
        self.image_shape = network.image_size

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any], *, device: str | torch.device = "cpu"
    ) -> ResidualFlowGenerator:
        """Build the network that tensors and config describe. Raises WeightsError, in one line, if they do not fit."""
        try:
            network = ResidualFlowNetwork(tensors, config)
        except KeyError as error:
            raise WeightsError(f"Residual Flow weights: no {error}") from None
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise WeightsError(f"Residual Flow weights: {str(error).splitlines()[0]}") from None
        return cls(network.to(device))

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``; a gray image is repeated to RGB. Raises GeneratorError for latents of another size."""
        if z.dim() != 2 or z.shape[1] != self.latent.dim:
            raise GeneratorError(f"Residual Flow: latents of shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")
        images = self.network(z)
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
