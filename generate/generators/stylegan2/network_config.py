"""The settings that fix the function of StyleGAN2 weights, and how they are read off the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import bare

from . import ops

Architecture = Literal["skip", "resnet", "orig"]
Taps = tuple[float, ...] | tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config:
    """Everything that fixes the function computed by a set of StyleGAN2 weights."""

    z_dim: int
    w_dim: int
    resolution: int  # a power of two, at least 4
    channels: tuple[int, ...]  # of the 4x4, 8x8, ... blocks
    const_channels: int | None = None  # of the learned constant, None = those of the 4x4 block
    img_channels: int = 3
    c_dim: int = 0  # number of classes, 0 = unconditional
    c_features: int | None = None  # width of the classes' embedding, None = w_dim
    c_concat: bool = False  # classes join z before the normalisation (StyleGAN2 in TensorFlow), not after (ADA)
    h_dim: int = 0  # width of instance features (IC-GAN), 0 = none
    h_features: int | None = None  # width of their embedding, None = w_dim
    num_mapping_layers: int = 8
    mapping_width: int | None = None  # hidden layers of the mapping network, None = w_dim
    mapping_lr_multiplier: float = 0.01
    mapping_activation: str = "lrelu"
    normalize_latents: bool = True
    activation: str = "lrelu"  # of the convolutions
    architecture: Architecture = "skip"
    conv_clamp: float | None = None  # activations are clamped to +-conv_clamp, in every precision
    resample_taps: Taps = (1.0, 3.0, 3.0, 1.0)  # low-pass filter, separable or a square matrix
    use_noise: bool = True
    mean_per_layer: bool = False  # the mean of W, which truncation pulls towards, differs from layer to layer

    @property
    def num_ws(self) -> int:
        """Number of W inputs of the synthesis network."""
        return 2 * len(self.channels)

    @property
    def resolutions(self) -> list[int]:
        """Resolution of each block, from 4 up."""
        return [4 << i for i in range(len(self.channels))]

    def __post_init__(self) -> None:
        if self.resolution != 4 << (len(self.channels) - 1):
            raise ValueError(f"resolution {self.resolution} needs {int(math.log2(self.resolution)) - 1} channel widths")
        for name in (self.activation, self.mapping_activation):
            if name not in ops.ACTIVATIONS:
                raise ValueError(f"activation {name!r}; known: {', '.join(ops.ACTIVATIONS)}")
        for what, number in (("conv_clamp", self.conv_clamp), ("mapping_lr_multiplier", self.mapping_lr_multiplier)):
            if number is not None and not (is_number(number) and number > 0):
                raise ValueError(f"{what} {number!r}; wanted a positive number")
        if not isinstance(self.normalize_latents, bool):
            raise ValueError(f"normalize_latents {self.normalize_latents!r}; wanted true or false")
        _check_taps(self.resample_taps)


def is_number(value: object) -> bool:
    """Whether this is a finite real number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_taps(taps: Taps) -> None:
    rows = [row if isinstance(row, tuple) else (row,) for row in taps]
    widths = {len(row) for row in rows}
    square = bool(rows) and (widths == {1} or widths == {len(rows)})
    if not square or len(rows) > 64 or not all(is_number(number) for row in rows for number in row):
        raise ValueError(f"resample_taps {taps!r}; wanted a list or a square matrix of up to 64 numbers a side")
    if not abs(sum(number for row in rows for number in row)) > 1e-6:
        raise ValueError(f"resample_taps {taps!r}; wanted a filter that does not sum to 0")


# What leaves no trace in the tensors: the keys that a checkpoint's config may have, and what holds where one is absent.
TRACELESS: dict[str, Any] = {
    "conv_clamp": None,
    "mapping_lr_multiplier": 0.01,
    "mapping_activation": "lrelu",
    "normalize_latents": True,
    "activation": "lrelu",
    "resample_taps": [1.0, 3.0, 3.0, 1.0],
}


def traceless(**values: Any) -> dict[str, Any]:
    """A checkpoint's config: the values that are not the defaults, in JSON's types."""
    return {name: value for name, value in values.items() if value != TRACELESS[name]}


def taps_of(kernel: Tensor) -> list[Any]:
    """The taps of a stored low-pass filter up to their scale: a list if it is separable, else the matrix.

    Shape: ``(f,)`` (how ADA stores filters of eight taps and more) or ``(f, f)``. The usual filter comes as [1, 3, 3, 1].
    """
    if kernel.dim() not in (1, 2) or kernel.shape[0] != kernel.shape[-1]:
        raise ValueError(f"a resampling filter of shape {tuple(kernel.shape)}")
    if kernel.dim() == 1:
        rows = columns = kernel.double()
    else:
        rows, columns = kernel.double().sum(dim=1), kernel.double().sum(dim=0)
    total = float(rows.sum())
    if not abs(total) > 1e-6:
        raise ValueError(f"a resampling filter that sums to {total:g}")
    rows, columns = rows / total, columns / total
    if not rows.allclose(columns, rtol=0, atol=1e-6) or (
        kernel.dim() == 2 and not (kernel.double() / total).allclose(rows.outer(columns), rtol=0, atol=1e-6)
    ):
        return [[float(number) for number in row] for row in kernel.double() / total]
    usual = rows.new_tensor([0.125, 0.375, 0.375, 0.125])
    if rows.shape == usual.shape and rows.allclose(usual, rtol=0, atol=1e-6):
        return list(TRACELESS["resample_taps"])
    return [float(number) for number in rows]


def common_taps(state: Mapping[str, Tensor]) -> list[Any]:
    """The taps that all ``resample_filter`` buffers of a state dict share; the usual ones if it has no such buffer.

    Raises ValueError if they differ from layer to layer.
    """
    kernels = [tensor for name, tensor in state.items() if name.endswith("resample_filter")]
    found = {str(taps): taps for taps in map(taps_of, kernels)}
    if len(found) > 1:
        raise ValueError(f"resampling filters that differ from layer to layer ({' and '.join(sorted(found)[:2])})")
    return next(iter(found.values()), list(TRACELESS["resample_taps"]))


def _shape(state: Mapping[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    if name not in state:
        raise WeightsError(f"a StyleGAN2 generator without {name}")
    if state[name].dim() != dims:
        raise WeightsError(f"{name} of shape {tuple(state[name].shape)}, wanted {dims} dimensions")
    return tuple(state[name].shape)


def _resolutions(state: Mapping[str, Tensor]) -> list[int]:
    names = [key.split(".")[1][1:] for key in state if key.startswith("synthesis.b") and key.endswith("conv1.weight")]
    found = sorted(int(name) for name in names if name.isdecimal() and len(name) < 6)
    if not found or found != [4 << i for i in range(len(found))]:
        raise WeightsError(f"StyleGAN2 blocks of resolution {found}, wanted 4, 8, 16, ...")
    return found


def infer_config(state: Mapping[str, Tensor], **traceless: Any) -> StyleGAN2Config:
    """Read the network's shape off a state dict with ADA names. What leaves no trace in the tensors is passed in.

    Raises WeightsError, in one line, if a tensor that tells the shape is missing or has another number of dimensions.
    """
    resolutions = _resolutions(state)
    empty = [name for name, tensor in state.items() if tensor.numel() == 0]
    if empty:
        raise WeightsError(f"{empty[0]} of shape {tuple(state[empty[0]].shape)}, wanted numbers")
    layers = sum(key.startswith("mapping.fc") and key.endswith(".weight") for key in state)
    w_dim = _shape(state, "synthesis.b4.conv1.affine.weight", 2)[1]
    concat, h_dim, h_features = "mapping.concat.weight" in state, 0, 0
    c_features, c_dim = 0, 0
    if concat or "mapping.embed.weight" in state:
        c_features, c_dim = _shape(state, "mapping.concat.weight" if concat else "mapping.embed.weight", 2)
    if "mapping.embed_feats.weight" in state:
        h_features, h_dim = _shape(state, "mapping.embed_feats.weight", 2)
    width, inputs = _shape(state, "mapping.fc0.weight", 2) if layers else (w_dim, w_dim)
    architecture: Architecture = "skip"
    if "synthesis.b4.torgb.weight" not in state and len(resolutions) > 1:
        architecture = "resnet" if "synthesis.b8.skip.weight" in state else "orig"
    if inputs <= c_features + h_features:
        raise WeightsError(f"a mapping network with {inputs} inputs, of which {c_features + h_features} are conditions")
    return StyleGAN2Config(
        z_dim=inputs - c_features - h_features,
        w_dim=w_dim,
        resolution=resolutions[-1],
        channels=tuple(_shape(state, f"synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions),
        const_channels=_shape(state, "synthesis.b4.const", 3)[0],
        img_channels=_shape(state, f"synthesis.b{resolutions[-1]}.torgb.weight", 4)[0],
        c_dim=c_dim,
        c_features=c_features if c_dim else None,
        c_concat=concat,
        h_dim=h_dim,
        h_features=h_features if h_dim else None,
        num_mapping_layers=layers,
        mapping_width=width if layers > 1 else None,
        architecture=architecture,
        use_noise="synthesis.b4.conv1.noise_strength" in state,
        mean_per_layer="mapping.w_avg" in state and state["mapping.w_avg"].dim() == 2,
        **{name: _frozen(value) for name, value in traceless.items()},
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def refuse_other_networks(names: Iterable[str], container: str) -> None:
    """Raise WeightsError if these are the tensors of StyleGAN3, StyleGAN-XL or StyleGAN1. ``container``: "pickle", ..."""
    found = [f".{bare(name)}" for name in names]
    if any(".synthesis.input." in name or ".synthesis.L0_" in name for name in found):
        large = any(".mapping.embed_proj." in name for name in found)
        raise WeightsError(f"this is a {'StyleGAN-XL' if large else 'StyleGAN3'} {container}: not supported")
    if any("/StyleMod/" in name for name in found):
        raise WeightsError(f"this is a StyleGAN1 {container} (config-a of StyleGAN2's paper): not supported")
