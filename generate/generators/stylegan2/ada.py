"""Weights with the names of StyleGAN2-ADA in PyTorch: bare state dicts, and the pickles of that and its descendants.

A pickle of ADA, of the stylegan3 repository or of IC-GAN is ``{"G": ..., "D": ..., "G_ema": ...}``. Each network is a call
that hands over source text (which is never looked at) and the module's ``__dict__``. What the function depends on stands
there, constructor defaults included, whereas the constructor's arguments do not tell those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import module_attributes
from genrep.untrusted import label, shown

from ..found_network import FoundNetwork
from .network_config import common_taps, is_number, traceless

MARKS = ("synthesis.b4.const", *(f"synthesis.b{4 << i}.conv1.weight" for i in range(9)))


def read_state_dict(found: FoundNetwork) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """The tensors, the config that their filters tell, and the file's names that were taken.

    Such a file does not tell its ``conv_clamp``: an option of the generator does.
    """
    state = {name: tensor for name, tensor in found.tensors.items() if name.startswith(("mapping.", "synthesis."))}
    return state, traceless(resample_taps=common_taps(state)), list(state)


def lacks_average(content: object) -> bool:
    """Whether this is a training's snapshot without an averaged generator."""
    return (
        isinstance(content, dict)
        and any(module_attributes(content.get(name)) is not None for name in ("G", "D", "G_ema"))
        and module_attributes(content.get("G_ema")) is None
    )


def read_pickle(found: FoundNetwork) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Tensors under their names in ``state_dict()``, the config of what they do not tell, and the names that were taken."""
    modules = {name: dict(attributes) for name, attributes in found.modules.items()}
    state = {name: tensor for name, tensor in found.tensors.items() if name.startswith(("mapping.", "synthesis."))}
    _check_gains(modules, state)
    layers = {name: module for name, module in modules.items() if _is_layer(name)}
    convolutions = {name: module for name, module in layers.items() if not name.endswith("torgb.")}
    dense = {name: module for name, module in modules.items() if name.startswith("mapping.fc")}
    clamp, rate = _shared(layers, "conv_clamp", None), _shared(dense, "bias_gain", 0.01)
    if not is_number(rate) or not (clamp is None or is_number(clamp)):
        raise WeightsError(f"conv_clamp {shown(clamp)} and bias_gain {shown(rate)}, wanted numbers")
    config = traceless(
        conv_clamp=None if clamp is None else float(clamp),
        activation=_shared(convolutions, "activation", "lrelu"),
        mapping_activation=_shared(dense, "activation", "lrelu"),
        mapping_lr_multiplier=float(rate),
        resample_taps=common_taps(state),
    )
    return state, config, list(state)


def _is_layer(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 4 and parts[0] == "synthesis" and parts[2] in ("conv0", "conv1", "torgb")


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _shared(modules: Mapping[str, dict[str, Any]], attribute: str, default: object) -> Any:
    """The value that an attribute has in all these modules; the default if none has it."""
    found = {name: _plain(module[attribute]) for name, module in modules.items() if attribute in module}
    if not found:
        return default
    first = next(iter(found.values()))
    for name, value in found.items():
        if not (value is None or isinstance(value, str) or is_number(value)):
            raise WeightsError(f"{name}{attribute} is a {type(value).__name__}, wanted a number or a name")
        if value != first:
            both = f"{shown(first)}, and {shown(value)} in {label(name[:-1])}"
            raise WeightsError(f"{attribute} differs from layer to layer ({both})")
    return first


def _check_gains(modules: Mapping[str, dict[str, Any]], state: Mapping[str, Tensor]) -> None:
    """Refuse dense layers whose run-time scale is not what our networks take for granted."""
    for name, module in modules.items():
        weight = state.get(f"{name}weight")
        if weight is None or weight.dim() != 2 or "weight_gain" not in module:
            continue
        found, rate = _plain(module["weight_gain"]), _plain(module.get("bias_gain", 1))
        if not isinstance(rate, int | float) or not isinstance(found, int | float):
            raise WeightsError(f"{name}weight_gain is no number")
        if not name.startswith("mapping.fc"):
            rate = 1.0
        wanted = rate / math.sqrt(max(weight.shape[1], 1))
        if not math.isclose(found, wanted, rel_tol=1e-5):
            raise WeightsError(f"{name}weight_gain is {found:g}, wanted {wanted:g}")
