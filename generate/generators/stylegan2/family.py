"""StyleGAN2 as a family of generators: which files hold one, and how it is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import DataError, RecipeError, WeightsError
from genrep.state_dicts import NoSuchNetwork, as_choice, flatten, module_attributes
from genrep.untrusted import label

from ..base import Checkpoint
from ..found_network import FoundNetwork, find_network
from ..instance_features import InstanceFeatures, load_features
from . import rosinality
from .generator import StyleGAN2Generator, expected_shapes
from .network_config import TRACELESS, StyleGAN2Config, common_taps, infer_config, is_number, refuse_other_networks
from .networks import NoiseMode
from .nvidia import MARKS, lacks_average, read_pickle, read_state_dict, read_tensorflow

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..instance_features import Source

OPTIONS = frozenset({"truncation", "truncation_cutoff", "noise", "conv_clamp", "features"})
NOISES = ("const", "none", "random")

Reader = Callable[[FoundNetwork], tuple[dict[str, "Tensor"], dict[str, Any], list[str]]]

# IC-GAN's best snapshot, TensorFlow's last one, those of a training (the last counts), published ones; ours.
_PUBLISHED = ("best-network-snapshot.pkl", "network-final.pkl", "network-snapshot-*.pkl", "stylegan2*.pkl")
_OTHERS = ("generator.safetensors", "stylegan2*.pt", "[0-9]*.pt", "checkpoint/[0-9]*.pt")


def find(folder: Path) -> Path | None:
    """The weights file in a folder that a training wrote or a download filled; None if there is none.

    Of several snapshots the one with the highest number.
    """
    for pattern in (*_PUBLISHED, *_OTHERS):
        found = sorted(
            (path for path in folder.glob(pattern) if path.is_file()),
            key=lambda path: ([int(digits) for digits in re.findall(r"\d+", path.name)], path.name),
        )
        if found:
            return found[-1]
    return None


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. All formats come out with the names of the ADA release in PyTorch, so that the same weights
    are the same checkpoint; filters are left out, since the config tells them where they are not the usual ones.
    """
    del named  # the names of the tensors leave no doubt
    where = f"weights {path}"
    if network is None and lacks_average(content):
        raise WeightsError(
            f"{where}: a training snapshot without 'G_ema', the averaged generator; "
            f"{as_choice(where, 'G')} selects the other"
        )
    found = find_network(content, (*MARKS, *rosinality.MARKS), where, network=network)
    try:
        if found is not None:
            state, config, used = _reader(found)(found)
            return _checkpoint(state, config, found.notes(used))
        if (variables := read_tensorflow(content, where, network)) is not None:
            return _checkpoint(*variables)
        if isinstance(content, Mapping) or module_attributes(content) is not None:
            held = flatten(content, where)
            refuse_other_networks(held.tensors, "pickle" if held.modules else "state dict")
    except NoSuchNetwork:
        raise
    except (WeightsError, ValueError) as error:
        raise WeightsError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None
    return None


def _reader(found: FoundNetwork) -> Reader:
    if found.tensors.keys().isdisjoint(MARKS):
        return rosinality.read
    return read_pickle if found.modules else read_state_dict


def _checkpoint(state: dict[str, Tensor], config: dict[str, Any], notes: tuple[str, ...] = ()) -> Checkpoint:
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("resample_filter")}
    if "mapping.w_avg" in kept:
        kept["mapping.w_avg"] = mean_of_w(kept["mapping.w_avg"])
    check_fit(kept, config)  # before anything is converted: a file may have one tensor under many names
    tensors = {}
    for name, tensor in kept.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise WeightsError(f"{name} is not a tensor of finite numbers")
        tensors[name] = tensor.detach().float().contiguous()
    return Checkpoint(family="stylegan2", tensors=tensors, config=config, notes=notes)


def mean_of_w(value: Tensor) -> Tensor:
    """The mean of W: one for all layers, also where a file repeats it for each, or one for each where they differ.

    Shape: ``(w_dim,)`` or ``(…, num_ws, w_dim)`` -> ``(w_dim,)`` or ``(num_ws, w_dim)``.
    """
    if value.dim() < 2:
        return value
    rows = value.reshape(-1, value.shape[-1])
    return rows[0] if bool((rows == rows[:1]).all()) else rows


def check_fit(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> StyleGAN2Config:
    """The network of these tensors. Raises WeightsError or ValueError, in one line, unless they are all of it and no more."""
    unknown = sorted(set(config) - set(TRACELESS))
    if unknown:
        raise WeightsError(f"its config has the unknown key {unknown[0]!r}; known: {', '.join(sorted(TRACELESS))}")
    found = infer_config(tensors, **config)
    wanted = expected_shapes(found)
    for name in tensors:
        if name not in wanted:
            raise WeightsError(f"a StyleGAN2 generator with an unexpected tensor {label(name)}")
    for name, shape in wanted.items():
        if name == "mapping.w_avg" and name not in tensors:  # a network that was trained without the mean of W
            continue
        if name not in tensors:
            raise WeightsError(f"a StyleGAN2 generator without {name}")
        if tuple(tensors[name].shape) != shape:
            raise WeightsError(f"{name} of shape {tuple(tensors[name].shape)}, wanted {shape}")
    return found


def open_checkpoint(
    checkpoint: Checkpoint,
    *,
    device: str | torch.device = "cpu",
    truncation: float = 1.0,
    truncation_cutoff: int | None = None,
    noise: NoiseMode = "const",
    conv_clamp: float | None = None,
    features: Source | None = None,
) -> StyleGAN2Generator:
    """The frozen generator.

    Args:
        checkpoint: what ``recognise`` or our own safetensors gave.
        device: torch device.
        truncation: psi, which pulls w towards its mean; 1 = none.
        truncation_cutoff: number of W inputs, from the coarsest, that psi applies to; None = all.
        noise: "const" (the file's own), "none" or "random".
        conv_clamp: clamp of the activations where the file cannot tell it; None = what the file says.
        features: instance features of an IC-GAN, see ``load_features``. Without them only the weights are looked at.

    Raises:
        RecipeError: an option that is none of these, or that these weights do not support.
        WeightsError: tensors and config do not fit together.
    """
    _check_options(truncation, noise, conv_clamp)
    config = _config(checkpoint, conv_clamp)
    if truncation_cutoff is not None and not (
        isinstance(truncation_cutoff, int) and 0 <= truncation_cutoff <= config.num_ws
    ):
        raise RecipeError(f"truncation_cutoff {truncation_cutoff!r}: wanted an integer from 0 to {config.num_ws}")
    if truncation != 1 and "mapping.w_avg" not in checkpoint.tensors:
        raise RecipeError(
            f"truncation {truncation:g}: these weights hold no mean of W (latent_avg); only 1 is possible"
        )
    return StyleGAN2Generator.from_state(
        checkpoint.tensors,
        config=config,
        device=device,
        truncation=float(truncation),
        truncation_cutoff=truncation_cutoff,
        noise=noise,
        instances=None if features is None else _instances(features, config),
    )


def _check_options(truncation: float, noise: str, conv_clamp: float | None) -> None:
    if not is_number(truncation):
        raise RecipeError(f"truncation {truncation!r}: wanted a finite number")
    if noise not in NOISES:
        raise RecipeError(f"noise {noise!r}; known: {', '.join(NOISES)}")
    if conv_clamp is not None and not (is_number(conv_clamp) and conv_clamp > 0):
        raise RecipeError(f"conv_clamp {conv_clamp!r}: wanted a positive number")


def _config(checkpoint: Checkpoint, conv_clamp: float | None) -> StyleGAN2Config:
    """The network of a checkpoint, whose tensors are all there and fit."""
    facts = dict(checkpoint.config)
    if conv_clamp is not None:
        facts["conv_clamp"] = float(conv_clamp)
    try:
        taps = common_taps(checkpoint.tensors)  # our own files have no filters; someone else's may
        facts.setdefault("resample_taps", taps)
        tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.endswith("resample_filter")}
        config = check_fit(tensors, facts)
    except (WeightsError, ValueError) as error:
        raise WeightsError(f"weights: {error}") from None
    if config.img_channels not in (1, 3):
        raise WeightsError(f"weights: images of {config.img_channels} channels, wanted 1 or 3")
    return config


def _instances(features: Source, config: StyleGAN2Config) -> InstanceFeatures:
    """Features that fit the network. Raises RecipeError or DataError if they do not."""
    if config.h_dim == 0:
        raise RecipeError("features: this generator is not conditioned on instance features")
    instances = load_features(features)
    width = instances.features.shape[1]
    if width != config.h_dim:
        raise DataError(f"features: have {width} dimensions, wanted {config.h_dim}")
    if config.c_dim and instances.labels is None:
        raise DataError("features: this IC-GAN is conditioned on classes too: the features need labels")
    if config.c_dim and instances.labels is not None and int(instances.labels.max()) >= config.c_dim:
        raise DataError(f"features: label {int(instances.labels.max())}, but the generator has {config.c_dim} classes")
    return instances
