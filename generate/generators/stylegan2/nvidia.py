"""NVIDIA's files: state dicts and pickles of StyleGAN2-ADA in PyTorch, and pickles of StyleGAN2 and ADA in TensorFlow.

A pickle of ADA, of the stylegan3 repository or of IC-GAN is ``{"G": ..., "D": ..., "G_ema": ...}``. Each network is a call
that hands over source text (which is never looked at) and the module's ``__dict__``. What the function depends on stands
there, constructor defaults included, whereas the constructor's arguments do not tell those. A pickle of TensorFlow holds
variables by name, and the arguments that were not defaults.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import NoSuchNetwork, as_choice, module_attributes
from genrep.unpickle.records import Opaque
from genrep.untrusted import label, shown

from ..found_network import FoundNetwork
from .network_config import common_taps, is_number, refuse_other_networks, taps_of, traceless

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
            raise WeightsError(f"{name}weight_gain is not a number")
        if not name.startswith("mapping.fc"):
            rate = 1.0
        wanted = rate / math.sqrt(max(weight.shape[1], 1))
        if not math.isclose(found, wanted, rel_tol=1e-5):
            raise WeightsError(f"{name}weight_gain is {found:g}, wanted {wanted:g}")


_PLACES = {"G": 0, "Gs": 2}  # in (G, D, Gs)
_AVERAGED = _PLACES["Gs"]
_PARTS = ("mapping", "synthesis")
_DEFAULT_KERNEL = [1, 3, 3, 1]


def read_tensorflow(
    content: object, where: str, choice: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors under ADA's names, and the config of what they do not tell; None if it is no pickle of a TensorFlow network.

    ``choice``: "G" is the network that was trained, "Gs" (None) its average.
    Truncation is left to the caller: the 0.5 that TensorFlow's generator defaults to is no property of the weights.

    Raises WeightsError if it is a network of another kind, NoSuchNetwork for another choice.
    """
    if isinstance(content, list | tuple) and len(content) > _AVERAGED:
        content = content[_PLACES.get(choice or "", _AVERAGED)]
    network = _network(content)
    if network is None:
        return None
    if choice not in (None, *_PLACES):
        raise NoSuchNetwork(
            f"{where}#{label(choice)}: is none of its generators; wanted one of "
            f"{', '.join(as_choice(where, name) for name in _PLACES)}"
        )
    variables = dict(_variables(network))
    refuse_other_networks(variables, "pickle")
    if "synthesis/4x4/Conv/mod_weight" not in variables:
        raise WeightsError(f"a TensorFlow network {str(network.get('name'))!r} that is not a StyleGAN2 generator")
    arguments: dict[str, Any] = {}
    components = _mapping(network.get("components"))
    for fields in (*(_network(components.get(name)) for name in _PARTS), network):  # those of the whole prevail
        arguments.update(_mapping((fields or {}).get("static_kwargs")))
    state = {}
    for name, value in _modern(variables).items():
        state.update(_convert(name, value))
    return state, _config(arguments)


def _network(value: object) -> dict[str, Any] | None:
    """The state of a pickled ``Network``, whatever its class is called; None if it is none."""
    fields = value.state if isinstance(value, Opaque) else None
    if isinstance(fields, dict) and isinstance(fields.get("variables"), list | tuple) and "static_kwargs" in fields:
        return fields
    return None


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, Opaque):  # a subclass of dict
        pairs = [pair for pair in value.items if isinstance(pair, list | tuple) and len(pair) == 2]
        return {pair[0]: pair[1] for pair in pairs if isinstance(pair[0], str)}
    return value if isinstance(value, dict) else {}


def _variables(network: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The network's own variables and those of its parts, by name."""
    parts = [("", network)]
    components = _mapping(network.get("components"))
    for name in _PARTS:
        part = _network(components.get(name))
        if part is not None:
            parts.append((f"{name}/", part))
    for prefix, part in parts:
        for pair in part["variables"]:
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise WeightsError("its variables are not pairs of a name and an array")
            yield prefix + pair[0], _tensor(prefix + pair[0], pair[1])


def _tensor(name: str, value: object) -> Tensor:
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic | int | float) else None
    if array is None or array.dtype.kind not in "fiu":
        raise WeightsError(f"its variable {name} is not an array of numbers")
    return torch.from_numpy(array.astype(np.float32))


def _modern(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """Configs B to D of the paper, which grew while they trained, under the names of the others.

    Their images come from the last block alone (the "orig" architecture), whose toRGB is named by the level of detail 0.
    """
    growing = [name for name in variables if "ToRGB_lod" in name]
    if not growing:
        return variables
    lod = float(variables.get("lod", torch.zeros(())).sum())
    if lod > 0:
        raise WeightsError(f"a network that was still growing (level of detail {lod:g}): not supported")
    sizes = [int(found[1]) for name in variables if (found := re.fullmatch(r"synthesis/(\d+)x\d+/Conv1/weight", name))]
    kept = {name: value for name, value in variables.items() if name not in growing}
    for part in ("weight", "bias", "mod_weight", "mod_bias"):
        source = f"synthesis/ToRGB_lod0/{part}"
        if source not in variables:
            raise WeightsError(f"a StyleGAN2 generator without {source}")
        kept[f"synthesis/{max(sizes, default=4)}x{max(sizes, default=4)}/ToRGB/{part}"] = variables[source]
    return kept


def _conv(weight: Tensor) -> Tensor:  # (k, k, I, O) -> (O, I, k, k)
    return weight.permute(3, 2, 0, 1)


def _up_conv(weight: Tensor) -> Tensor:  # stored as a convolution's, while ours goes to a transposed convolution
    return weight.flip((0, 1)).permute(3, 2, 0, 1)


def _same(value: Tensor) -> Tensor:
    return value


_Values = dict[str, tuple[str, Callable[[Tensor], Tensor]]]  # TensorFlow's name -> ADA's, and how the value changes


def _layer(weight: Callable[[Tensor], Tensor]) -> _Values:
    return {
        "weight": ("weight", weight),
        "bias": ("bias", _same),
        "mod_weight": ("affine.weight", torch.t),
        "mod_bias": ("affine.bias", lambda bias: bias + 1),  # TensorFlow adds it at run time
        "noise_strength": ("noise_strength", _same),
    }


_LAYERS: dict[str, tuple[str, _Values]] = {  # of TensorFlow -> ADA's layer, and its parts
    "Conv": ("conv1", _layer(_conv)),
    "Conv0_up": ("conv0", _layer(_up_conv)),
    "Conv1": ("conv1", _layer(_conv)),
    "ToRGB": ("torgb", _layer(_conv)),
    "Skip": ("skip", {"weight": ("weight", _conv)}),
    "Const": ("", {"const": ("const", lambda const: const[0])}),
}
_LABELS: _Values = {
    "LabelEmbed/weight": ("embed.weight", torch.t),
    "LabelEmbed/bias": ("embed.bias", _same),
    "LabelConcat/weight": ("concat.weight", torch.t),
}


def _convert(name: str, value: Tensor) -> dict[str, Tensor]:
    """One variable under its name in ADA's state dict; nothing for what the finished network does not use."""
    if name.rpartition("/")[2] == "lod":
        return {}
    try:
        if name == "dlatent_avg":
            return {"mapping.w_avg": value}
        if found := re.fullmatch(r"mapping/Dense(\d+)/(weight|bias)", name):
            return {f"mapping.fc{found[1]}.{found[2]}": value.t() if found[2] == "weight" else value}
        if name.startswith("mapping/") and name[8:] in _LABELS:
            target, change = _LABELS[name[8:]]
            return {f"mapping.{target}": change(value)}
        if found := re.fullmatch(r"synthesis/noise(\d{1,2})", name):
            number = int(found[1])
            layer = f"b{1 << (number + 5) // 2}.conv{0 if number % 2 else 1}"
            return {f"synthesis.{layer}.noise_const": value[0, 0]}
        found = re.fullmatch(r"synthesis/(\d+)x\1/(\w+)/(\w+)", name)
        if found and found[3] in _LAYERS.get(found[2], ("", {}))[1]:
            layer, parts = _LAYERS[found[2]]
            part, change = parts[found[3]]
            return {".".join(filter(None, ("synthesis", f"b{found[1]}", layer, part))): change(value)}
    except (RuntimeError, IndexError):
        raise WeightsError(f"its variable {name} has the unexpected shape {tuple(value.shape)}") from None
    raise WeightsError(f"a StyleGAN2 generator with an unexpected variable {name}")


def _config(arguments: dict[str, Any]) -> dict[str, Any]:
    """The config of arguments that change the function but do not show in the variables; the networks ignore unknown ones."""

    def argument(name: str, default: object) -> Any:
        value = arguments.get(name, default)
        return value.item() if isinstance(value, np.generic) else value

    kernel = argument("resample_kernel", _DEFAULT_KERNEL)
    if kernel is None:
        kernel = [1, 1]  # a box filter
    clamp = argument("conv_clamp", None)
    try:
        return traceless(
            conv_clamp=None if clamp is None else float(clamp),
            activation=argument("nonlinearity", "lrelu"),
            mapping_activation=argument("mapping_nonlinearity", "lrelu"),
            mapping_lr_multiplier=float(argument("mapping_lrmul", 0.01)),
            normalize_latents=bool(argument("normalize_latents", True)),
            resample_taps=taps_of(torch.from_numpy(np.array(kernel, dtype=np.float64))),
        )
    except (TypeError, ValueError):
        raise WeightsError("its static_kwargs are not those of a StyleGAN2 generator") from None
