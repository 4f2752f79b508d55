"""Which layers a Residual Flow checkpoint holds, read off the inert records of its pickled network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import WRAPPERS, bare, below, shown_prefix
from genrep.unpickle.records import Opaque

AFFINE = {
    "InducedNormConv2d": "conv",
    "InducedNormLinear": "linear",
    "SpectralNormConv2d": "conv",
    "SpectralNormLinear": "linear",
}
# Class of an activation -> our name of it, and the attributes without which it would be another function.
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "Swish": ("swish", {}),
    "ELU": ("elu", {"alpha": 1.0}),
    "ReLU": ("relu", {}),
    "Softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}),
    "LipschitzCube": ("lcube", {}),
    "FullSort": ("fullsort", {}),
}
NO_OPS = ("Identity", "Dropout", "Dropout2d")  # at test time
ACT_NORMS = ("ActNorm1d", "ActNorm2d")
MIXINGS = ("InvertibleLinear", "InvertibleConv2d")
NETWORK_KEY = re.compile(r"((?:.+\.)?)transforms\.\d+\.chain\.\d+\..+")  # and what stands before it
WHERE = "Residual Flow weights"
MAX_WRAPPERS = 8  # one in another


def find_training(content: object) -> Mapping[str, Any] | None:
    """A training's file, ``{"state_dict": ..., "ema": ..., "args": ...}`` or a state dict of it, in any container."""
    left, seen = [content], set()
    for one in left:  # which grows
        if not isinstance(one, Mapping) or id(one) in seen:
            continue
        seen.add(id(one))
        state = one.get("state_dict", one)
        if isinstance(state, Mapping) and any(isinstance(key, str) and NETWORK_KEY.match(bare(key)) for key in state):
            return one
        left += one.values()
    return None


def read_structure(content: Mapping[str, Any], *, averaged: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (with ``averaged``: the averaged weights in place of the raw ones) and config of a checkpoint.

    The config lists the layers of each scale in the order of the forward pass, as the pickled network has them, with the
    constants of the spectral normalisation. Raises WeightsError, in one line, for what cannot be run.
    """
    ema = content.get("ema")
    members = ema.state if isinstance(ema, Opaque) and isinstance(ema.state, Mapping) else {}
    module, shadow = members.get("module"), members.get("shadow_params")
    if not isinstance(module, Opaque) or not isinstance(shadow, Mapping):
        raise WeightsError(
            "Residual Flow weights: no 'ema' object with module and shadow_params in the file; "
            "wanted the checkpoint that its training writes, not a bare state dict"
        )
    state = _tensors(content["state_dict"])
    network = _Network(_unwrapped(module), _averaged(state, shadow) if averaged else state)
    config = network.config(content.get("args"))
    return network.tensors, config


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """By the network's own names, whatever wraps it: they may stand below one prefix."""
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    names = below(tensors, "", WHERE)
    before = {found[1] for name in names if (found := NETWORK_KEY.fullmatch(name))}
    if len(before) > 1:
        shown = ", ".join(shown_prefix(prefix) for prefix in sorted(before)[:3])
        raise WeightsError(f"{WHERE}: the state dict holds {len(before)} networks ({shown}); wanted one")
    prefix = "".join(before)
    return {name.removeprefix(prefix): tensors[full] for name, full in names.items() if name.startswith(prefix)}


def _averaged(state: Mapping[str, Tensor], shadow: Mapping[str, Any]) -> dict[str, Tensor]:
    averages = _tensors(shadow)
    strange = next((key for key, value in shadow.items() if not isinstance(value, Tensor)), None)
    for name, value in averages.items():
        if name not in state or value.shape != state[name].shape:
            strange = name
    if strange is not None:
        raise WeightsError(f"{WHERE}: the averaged {strange!r} has no counterpart in the state dict")
    return {**state, **averages}


def _unwrapped(module: Opaque) -> Opaque:
    """The network in what wraps it (DataParallel, torch.compile, FSDP and others), told by its only part's name."""
    for _ in range(MAX_WRAPPERS):
        children = module.state.get("_modules") if isinstance(module.state, Mapping) else None
        if not isinstance(children, Mapping) or len(children) != 1 or WRAPPERS.isdisjoint(children):
            break
        module = _child(module, next(iter(children)))
    return module


def _class(module: Opaque) -> str:
    return module.name.rpartition(".")[2]


def _child(module: Opaque, name: str) -> Opaque:
    children = module.state.get("_modules") if isinstance(module.state, Mapping) else None
    child = children.get(name) if isinstance(children, Mapping) else None
    if not isinstance(child, Opaque):
        raise WeightsError(f"{WHERE}: {_class(module)} without its part {name!r}")
    return child if name in WRAPPERS else _unwrapped(child)


def _children(module: Opaque) -> dict[str, Opaque]:
    children = module.state.get("_modules") if isinstance(module.state, Mapping) else None
    if not isinstance(children, Mapping) or not all(isinstance(child, Opaque) for child in children.values()):
        raise WeightsError(f"{WHERE}: {_class(module)} is not a container of layers")
    return {name: _unwrapped(child) for name, child in children.items()}


def _attribute(module: Opaque, name: str) -> Any:
    if not isinstance(module.state, Mapping) or name not in module.state:
        raise WeightsError(f"{WHERE}: {_class(module)} without its attribute {name!r}")
    return module.state[name]


@dataclass
class _Network:
    """Walks the pickled modules once: ``chains`` as they come, ``tensors`` under our names."""

    module: Opaque
    state: dict[str, Tensor]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    image_shape: list[int] | None = None  # (C, H, W) of what the first residual block sees

    def config(self, args: object) -> dict[str, Any]:
        if _class(self.module) != "ResidualFlow":
            raise WeightsError(f"{WHERE}: the network is a {_class(self.module)}, wanted a ResidualFlow")
        vnorms = str(_attribute(self.module, "vnorms"))
        learned = isinstance(self.module.state, Mapping) and self.module.state.get("learn_p")
        if learned or set(vnorms) != {"2"}:
            raise WeightsError(f"{WHERE}: vnorms {vnorms!r}, learn_p {bool(learned)}: supported: 2222, False")
        stages = _children(_child(self.module, "transforms"))
        chains: list[list[Any]] = []
        for s, stage in stages.items():
            if _class(stage) != "StackediResBlocks":
                raise WeightsError(f"{WHERE}: {_class(stage)} is not supported")
            layers = _children(_child(stage, "chain"))
            chains.append([self._layer(layer, f"transforms.{s}.chain.{i}.") for i, layer in layers.items()])
        iterations = _attribute(self.module, "n_lipschitz_iters")
        image_shape = self._image_shape()
        config = {
            "chains": chains,
            "image_shape": image_shape,
            "factor_out": bool(_attribute(self.module, "factor_out")),
            "coeff": float(_attribute(self.module, "coeff")),
            "iterations": None if iterations is None else int(iterations),
            "atol": _number(_attribute(self.module, "sn_atol")),
            "rtol": _number(_attribute(self.module, "sn_rtol")),
        }
        return config | _image_options(args, image_shape)

    def _image_shape(self) -> list[int]:
        if self.image_shape is None:
            raise WeightsError("Residual Flow weights: a network without residual blocks")
        return self.image_shape

    def _take(self, source: str, target: str, *names: str) -> None:
        for name in names:
            if source + name not in self.state:
                raise WeightsError(f"{WHERE}: no tensor {source + name!r}")
            self.tensors[target + name] = self.state[source + name].float()

    def _layer(self, layer: Opaque, prefix: str, target: str | None = None) -> Any:
        target = prefix if target is None else target
        kind = _class(layer)
        if kind == "FCWrapper":
            return self._layer(_child(layer, "fc_module"), prefix + "fc_module.", prefix)
        if kind in ACT_NORMS:
            self._take(prefix, target, "weight", "bias")
            return "actnorm"
        if kind in MIXINGS:
            self._take(prefix, target, "weight")
            return "mixing"
        if kind == "iResBlock":
            return self._residual(_child(layer, "nnet"), prefix)
        if kind == "SqueezeLayer" and layer.state.get("downscale_factor") == 2:
            return "squeeze"
        if kind == "LogitTransform":
            return {"logit": float(_attribute(layer, "alpha"))}
        if kind == "ZeroMeanTransform":
            return {"normalize": [[0.5], [1.0]]}
        if kind == "Normalize":
            mean, std = (self.state.get(prefix + name, torch.empty(0)).tolist() for name in ("mean", "std"))
            return {"normalize": [mean, std]}
        raise WeightsError(f"{WHERE}: layer {prefix[:-1]} is a {kind}: not supported")

    def _residual(self, branch: Opaque, prefix: str) -> dict[str, list[str]]:
        source = prefix + "nnet."
        shape = None
        if _class(branch) == "FCNet":
            shape = [int(n) for n in _attribute(branch, "input_shape")]
            branch, source = _child(branch, "nnet"), source + "nnet."
        kinds: list[str] = []
        for i, layer in _children(branch).items():
            name, target = _class(layer), f"{prefix}nnet.{len(kinds)}."
            if name in NO_OPS:
                continue
            if name in AFFINE:
                self._take(f"{source}{i}.", target, "weight", "bias", "u", "v")
                shape = shape or self._seen(f"{source}{i}.")
                kinds.append(AFFINE[name])
            elif name in ACTIVATIONS:
                kinds.append(_activation(layer))
                if name == "Swish":
                    self._take(f"{source}{i}.", target, "beta")
            else:
                raise WeightsError(f"{WHERE}: layer {source}{i} is a {name}: not supported")
        self.image_shape = self.image_shape or shape
        return {"residual": kinds}

    def _seen(self, source: str) -> list[int]:
        size = self.state.get(source + "spatial_dims")
        if size is None or size.numel() != 2:
            raise WeightsError(f"{WHERE}: no tensor {source + 'spatial_dims'!r} of height and width")
        return [self.state[source + "weight"].shape[1], *(int(n) for n in size.tolist())]


def _number(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]


def _activation(layer: Opaque) -> str:
    kind, constants = ACTIVATIONS[_class(layer)]
    for name, wanted in constants.items():
        if (found := _attribute(layer, name)) != wanted:
            raise WeightsError(f"{WHERE}: {_class(layer)} with {name} {found}: supported: {wanted:g}")
    return kind


def _image_options(args: object, shape: list[int]) -> dict[str, Any]:
    # Squeezing and padding happened outside the network: the training options know of them. Where they are silent, no
    # image has 4 or 12 channels.
    options = args.state if isinstance(args, Opaque) and isinstance(args.state, Mapping) else {}
    squeezed = options.get("squeeze_first")
    return {
        "squeeze_first": shape[0] in (4, 12) if squeezed is None else bool(squeezed),
        "padding": int(options.get("padding") or 0),
    }
