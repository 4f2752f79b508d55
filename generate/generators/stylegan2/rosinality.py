"""Checkpoints with the names of rosinality's networks (``{"g_ema": ..., "latent_avg": ...}``), davidbau's and BasicSR's."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.untrusted import label

from ..found_network import FoundNetwork
from .network_config import common_taps, traceless

_NOISE_SEED = 1  # of the noise that davidbau's networks take where a file of before 2020-01-15 has none

# Others' names -> rosinality's. davidbau's numbers count from 3, 2 and 1; one of that network's two forms adds ".dconv".
# BasicSR's networks do the same as rosinality's, but have no tensors for their filters.
_RENAMES = (
    (re.compile(r"layer2\.conv\.mconv\."), "conv1.conv."),
    (re.compile(r"layer2\.conv\."), "conv1."),
    (re.compile(r"layer(\d{1,2})\.sconv\.mconv\."), "convs.{0}.conv."),
    (re.compile(r"layer(\d{1,2})\.sconv\."), "convs.{0}."),
    (re.compile(r"to_rgb1\.rgb\."), "to_rgb1."),
    (re.compile(r"to_rgb(\d{1,2})\.rgb\."), "to_rgbs.{1}."),
    (re.compile(r"up_rgb(\d{1,2})\."), "to_rgbs.{2}.upsample."),
    (re.compile(r"latents\.latent_avg"), "latent_avg"),
    (re.compile(r"constant_input\.weight"), "input.input"),
    (re.compile(r"style_mlp\."), "style."),
    (re.compile(r"style_conv1\.weight"), "conv1.noise.weight"),
    (re.compile(r"style_conv1\.modulated_conv\."), "conv1.conv."),
    (re.compile(r"style_conv1\."), "conv1."),
    (re.compile(r"style_convs\.(\d{1,2})\.weight"), "convs.{3}.noise.weight"),
    (re.compile(r"style_convs\.(\d{1,2})\.modulated_conv\."), "convs.{3}.conv."),
    (re.compile(r"style_convs\.(\d{1,2})\."), "convs.{3}."),
    (re.compile(r"to_rgb1\.modulated_conv\."), "to_rgb1.conv."),
    (re.compile(r"to_rgbs\.(\d{1,2})\.modulated_conv\."), "to_rgbs.{3}.conv."),
    (re.compile(r"noises\.noise(\d{1,2})$"), "noises.noise_{3}"),
)


MARKS = (
    "input.input",
    "conv1.conv.modulation.weight",
    "layer2.conv.mconv.modulation.weight",
    "style_conv1.modulated_conv.modulation.weight",
)
_TOP = re.compile(
    r"(?:style|input|conv1|convs|to_rgb1|to_rgbs|noises|latent_avg|latents|layer\d+|to_rgb\d+|up_rgb\d+"
    r"|style_mlp|constant_input|style_conv1|style_convs)(?:\.|$)"
)


def read(found: FoundNetwork) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Tensors under ADA's names, the config of what they do not tell, and the file's names that were taken.

    ``mapping.w_avg`` is missing if the file has no mean of W, and noise that it lacks is drawn as davidbau's networks do.
    Raises WeightsError for names that do not belong.
    """
    if "style_conv1.bias" in found.tensors:
        raise WeightsError(
            "BasicSR's StyleGAN2 of the 'clean' kind, whose layers are scaled differently: not supported"
        )
    own = {name: tensor for name, tensor in found.tensors.items() if _TOP.match(name)}
    state = {_rename(name): tensor for name, tensor in own.items()}
    around = found.nearest("latent_avg")
    mean = state.pop("latent_avg", None if around is None else found.content.tensors[around])
    converted = {}
    for name, tensor in state.items():
        try:
            target, value = _convert(name, tensor)
        except (RuntimeError, IndexError):
            raise WeightsError(f"{label(name)} has the unexpected shape {tuple(tensor.shape)}") from None
        converted[target] = value
    if mean is not None:
        converted["mapping.w_avg"] = mean
    _draw_missing_noise(converted)
    return converted, traceless(resample_taps=common_taps(converted)), [*own, *([around] if around else [])]


def _rename(name: str) -> str:
    name = name.replace(".dconv.", ".")
    for pattern, target in _RENAMES:
        found = pattern.match(name)
        if found:
            number = int(found[1]) if pattern.groups else 0
            return target.format(number - 3, number - 2, number - 1, number) + name[found.end() :]
    return name


def _convert(name: str, value: Tensor) -> tuple[str, Tensor]:
    """One tensor's name and value in ADA's state dict."""
    if name == "input.input":
        return "synthesis.b4.const", value[0]
    if found := re.fullmatch(r"style\.([1-9]\d?)\.(weight|bias)", name):
        return f"mapping.fc{int(found[1]) - 1}.{found[2]}", value
    if found := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
        number = int(found[1])
        return f"{_layer(number)}.noise_const", value[0, 0]
    if found := re.fullmatch(r"(?:conv1|convs\.(\d{1,2}))\.(.+)", name):
        layer = _layer(0 if found[1] is None else int(found[1]) + 1)
        return f"{layer}.{_part(found[2], name)}", _value(found[2], value)
    if found := re.fullmatch(r"(?:to_rgb1|to_rgbs\.(\d{1,2}))\.(.+)", name):
        block = f"synthesis.b{4 if found[1] is None else 8 << int(found[1])}"
        if found[2] == "upsample.kernel":
            return f"{block}.resample_filter", value
        return f"{block}.torgb.{_part(found[2], name)}", _value(found[2], value)
    raise WeightsError(f"a StyleGAN2 generator with an unexpected tensor {label(name)}")


def _layer(number: int) -> str:
    """The convolution with this number, from 0 at 4x4."""
    return f"synthesis.b{1 << (number + 5) // 2}.conv{0 if number % 2 else 1}"


_PARTS = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "conv.blur.kernel": "resample_filter",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",  # toRGB; and the convolutions, before 2019-12-16
}


def _part(part: str, name: str) -> str:
    if part not in _PARTS:
        raise WeightsError(f"a StyleGAN2 generator with an unexpected tensor {label(name)}")
    return _PARTS[part]


def _value(part: str, value: Tensor) -> Tensor:
    if part == "conv.weight":
        return value[0]
    if part == "noise.weight":
        return value.reshape(())
    return value.reshape(-1) if part in ("activate.bias", "bias") else value


def _draw_missing_noise(state: dict[str, Tensor]) -> None:
    if any(name.endswith("noise_const") for name in state):
        return
    draws = np.random.RandomState(_NOISE_SEED)  # a fact of the format: NumPy's policy freezes these numbers
    number = 0
    while f"{_layer(number)}.noise_strength" in state:
        size = 1 << (number + 5) // 2
        state[f"{_layer(number)}.noise_const"] = torch.from_numpy(draws.randn(size, size).astype(np.float32))
        number += 1
