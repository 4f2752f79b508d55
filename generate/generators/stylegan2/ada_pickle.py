"""Pickles of StyleGAN2-ADA in PyTorch, of the stylegan3 repository and of IC-GAN: trees of modules with their attributes.

Such a pickle is ``{"G": ..., "D": ..., "G_ema": ...}``. Each network is a call that hands over source text (which is never
looked at) and the module's ``__dict__``. What the function depends on stands there, constructor defaults included, whereas
the constructor's arguments do not tell those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from genrep.errors import WeightsError
from genrep.unpickle.records import Opaque

from .config import common_taps, is_number, traceless
from .other_networks import refuse_other_networks

_DEEPEST, _MOST = 12, 4096  # modules: a 1024-pixel network is 5 deep and has 100


def read(content: object) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors under their names in ``state_dict()`` and the config of what they do not tell; None if it is no such pickle.

    Raises WeightsError for a snapshot that has no averaged generator or whose generator is another network.
    """
    if isinstance(content, dict) and any(_fields(content.get(name)) is not None for name in ("G", "D", "G_ema")):
        fields = _fields(content.get("G_ema"))
        if fields is None:
            raise WeightsError("a snapshot of a training without 'G_ema', the averaged generator that is wanted")
    else:
        fields = _fields(content)
        if fields is None:
            return None
    modules = dict(_walk(fields, ""))
    state = {prefix + name: tensor for prefix, module in modules.items() for name, tensor in _tensors(module)}
    refuse_other_networks(state, "pickle")
    if not any(name.startswith("synthesis.b") for name in state):
        return None
    _check_gains(modules, state)
    layers = {name: module for name, module in modules.items() if _is_layer(name)}
    convolutions = {name: module for name, module in layers.items() if not name.endswith("torgb.")}
    dense = {name: module for name, module in modules.items() if name.startswith("mapping.fc")}
    clamp, rate = _shared(layers, "conv_clamp", None), _shared(dense, "bias_gain", 0.01)
    if not is_number(rate) or not (clamp is None or is_number(clamp)):
        raise WeightsError(f"conv_clamp {clamp!r} and bias_gain {rate!r}, wanted numbers")
    return state, traceless(
        conv_clamp=None if clamp is None else float(clamp),
        activation=_shared(convolutions, "activation", "lrelu"),
        mapping_activation=_shared(dense, "activation", "lrelu"),
        mapping_lr_multiplier=float(rate),
        resample_taps=common_taps(state),
    )


def _fields(value: object) -> dict[str, Any] | None:
    """The ``__dict__`` of a pickled module, whoever its class is; None if it is no module."""
    if not isinstance(value, Opaque):
        return None
    fields = value.state
    if fields is None and isinstance(value.args, tuple) and value.args and isinstance(value.args[0], dict):
        fields = value.args[0].get("state")
    if not isinstance(fields, dict):
        return None
    groups = [fields.get(name) for name in ("_parameters", "_buffers", "_modules")]
    return fields if all(isinstance(group, dict) for group in groups) else None


def _walk(fields: dict[str, Any], prefix: str, seen: list[None] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Modules by prefix ("" for the root, else "synthesis.b4."), parents first."""
    seen = [] if seen is None else seen
    seen.append(None)
    if prefix.count(".") > _DEEPEST or len(seen) > _MOST:  # modules that contain themselves, or each other many times
        raise WeightsError(f"its modules nest more than {_DEEPEST} deep or number more than {_MOST}")
    yield prefix, fields
    for name, child in fields["_modules"].items():
        below = _fields(child)
        if below is not None:
            yield from _walk(below, f"{prefix}{name}.", seen)


def _tensors(module: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for group in ("_parameters", "_buffers"):
        for name, tensor in module[group].items():
            if isinstance(tensor, Tensor):
                yield str(name), tensor


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
            raise WeightsError(f"{attribute} differs from layer to layer ({first!r}, and {value!r} in {name[:-1]})")
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
