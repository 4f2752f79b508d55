"""Find the ResNet in a checkpoint of any layout and translate it to torchvision's, whole or not at all.

``genrep.state_dicts`` finds every network of the file and says which is meant, ``names.py`` translates its names. What stands
beside the network (heads, queues, other networks, counters of profilers) is left out and named. A name within its stem or its
layers that no ResNet has is refused, since it changes the network's function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import IDLE, as_choice, below, equal, flatten, grouped, idle_groups, pick, shown_prefix
from genrep.untrusted import label

from . import EncoderFacts, architecture
from .architectures import RESNETS
from .building import build_encoder
from .loaded import built
from .names import Candidate, candidates, reason, stages_fault, torchvision_names
from .networks import WIDTH

_COUNTER = "num_batches_tracked"
_SHOWN = 6
LARGEST_WIDTH = 1024  # of the first stage
# Parts of the network, by the first part of their names under torchvision's; all else beside it takes no part in its features.
_INSIDE = re.compile(r"(?:conv\d*|bn\d+|norm\d+|gn\d+|(?:layer|stage|stem|res|block)s?_?\d*|conv\d_x|embedder)")


@dataclass(frozen=True, kw_only=True)
class FoundResNet:
    """A complete ResNet under torchvision's names, without ``fc``."""

    arch: str
    stem: str
    state: dict[str, Tensor]
    prefix: str  # before its names in the file
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def find_resnet(content: object, where: str, network: str | None = None) -> FoundResNet:
    """The ResNet in what a checkpoint holds.

    Args:
        content: dictionaries, lists and pickled modules with tensors or arrays, nested as they like.
        where: the file, for messages.
        network: which of several, by the prefix of its names (or the last parts of that); None = the one that was
            trained, where a key encoder, a teacher or an average stands beside it.

    Raises:
        WeightsError: there is no ResNet, the choice is not clear, or some of its tensors are missing, unknown, misshapen or
            not finite: nothing is ever left at its random initialisation.
    """
    tensors = flatten(content, where).tensors
    if not tensors:
        raise WeightsError(f"{where}: it holds no tensors by name; wanted a ResNet's state_dict()")
    known = candidates(tensors)
    if not known:
        raise WeightsError(_none_found(tensors, where))
    states = {prefix: _translated(tensors, one, known, where) for prefix, one in known.items()}
    chosen = pick(
        list(known),
        lambda one, other: _same(tensors, states[one], states[other]),
        averaged=False,
        choice=network,
        where=where,
        what="ResNet",
    )
    if (fault := stages_fault(known[chosen])) is not None:
        raise WeightsError(f"{where}: {fault}")
    others = [one for one in known if one != chosen and not _same(tensors, states[chosen], states[one])]
    notes = _notes(chosen, others, where)
    state, idle, unknown = _sorted_out(tensors, states[chosen])
    arch, stem = _fitted(state, unknown, where)
    if stem == "cifar":
        notes.append("the 3x3 stem is read as one of stride 1 without pooling: shapes do not tell")
    if known[chosen].layout == "detectron2":
        notes.append("detectron2's names are read as a network of RGB images with the stride in its 3x3 convolutions")
    used = {states[chosen][name] for name in (*state, *idle)}
    beside = grouped((name for name in tensors if name not in used), chosen)
    return FoundResNet(
        arch=arch,
        stem=stem,
        state=plain({**_counters(arch, stem), **state}, resnet_shapes(arch, stem), where),
        prefix=chosen,
        left_out=(*beside, *idle_groups(idle)),
        notes=tuple(notes),
    )


def _none_found(tensors: Mapping[str, Tensor], where: str) -> str:
    some = ", ".join(map(label, sorted(tensors)[:4]))
    if any("/~/" in name for name in tensors):
        return f"{where}: its names are Haiku's (JAX; {some}, …); wanted a network of PyTorch: convert it first"
    if any(re.search(r"(?:^|\.)res\d_\d+_branch", name) for name in tensors):
        return f"{where}: its names are Caffe2's ({some}, …); wanted detectron2's or torchvision's: convert it first"
    return (
        f"{where}: no ResNet among its {len(tensors)} tensors ({some}, …), nor a vision transformer; "
        "wanted conv1.weight, layer1.0.conv1.weight, … or patch_embed.proj.weight, blocks.0.…, below any prefix"
    )


def _translated(
    tensors: Mapping[str, Tensor], one: Candidate, known: Mapping[str, Candidate], where: str
) -> dict[str, str]:
    """torchvision's names (and those that it lacks) below a prefix, each with the full name in the file."""
    full = below(tensors, one.prefix, where, without=list(known))
    renamed = torchvision_names({name: tensors[path] for name, path in full.items()}, one)
    found: dict[str, str] = {}
    for name, new in renamed.items():
        if new in found and not equal(tensors[found[new]], tensors[full[name]]):
            raise WeightsError(f"{where}: it holds two tensors for {label(new)}")
        found.setdefault(new, full[name])
    return found


def _same(tensors: Mapping[str, Tensor], one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether one network is in the file twice, as an attribute of two modules."""
    mine, theirs = ({name: path for name, path in state.items() if _is_inside(name)} for state in (one, other))
    return mine.keys() == theirs.keys() and all(equal(tensors[mine[name]], tensors[theirs[name]]) for name in mine)


def _is_inside(name: str) -> bool:
    return _INSIDE.fullmatch(name.partition(".")[0]) is not None and not IDLE.search(name)


def _notes(chosen: str, others: list[str], where: str) -> list[str]:
    if not chosen and not others:
        return []
    note = f"took the ResNet at {shown_prefix(chosen)}"
    if others:
        names = " and ".join(map(shown_prefix, others[:_SHOWN])) + (" and more" if len(others) > _SHOWN else "")
        note += f", not the one at {names} ({as_choice(where, others[0])} takes that)"
    return [note]


def _sorted_out(
    tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str], dict[str, Tensor]]:
    """The network's tensors under torchvision's names, the idle ones' names, and those that no ResNet has."""
    state: dict[str, Tensor] = {}
    idle: list[str] = []
    unknown: dict[str, Tensor] = {}
    every = resnet_shapes("resnet152", "imagenet").keys() | resnet_shapes("resnet34", "imagenet").keys()
    for name, path in names.items():
        if name in every:
            state[name] = tensors[path]
        elif IDLE.search(name):
            idle.append(name)
        elif _is_inside(name):
            unknown[name] = tensors[path]
    return state, idle, unknown


def _fitted(state: Mapping[str, Tensor], unknown: Mapping[str, Tensor], where: str) -> tuple[str, str]:
    """Arch and stem of a complete ResNet. Raises WeightsError for any other, with what does not fit."""
    stem = "cifar" if "conv1.weight" in state and state["conv1.weight"].shape[2:] == (3, 3) else "imagenet"
    whole = {**state, **unknown}
    width = state["conv1.weight"].shape[0] if "conv1.weight" in state else WIDTH
    suffix = "" if width == WIDTH or not 1 <= width <= LARGEST_WIDTH else f":width={width}"
    archs = [f"{name}{suffix}" for name in RESNETS]
    arch, misfits = min(
        ((arch, misfits_of(whole, resnet_shapes(arch, stem), optional=_counters(arch, stem))) for arch in archs),
        key=lambda pair: len(pair[1]),
    )
    check_fit(misfits, arch, where, reason(unknown))
    return arch, stem


def _counters(arch: str, stem: str) -> dict[str, Tensor]:
    """Counters of batch norms, all 0. Files of PyTorch before 0.4.1 and frozen batch norms lack them; features need none."""
    return {name: torch.zeros((), dtype=torch.int64) for name in resnet_shapes(arch, stem) if name.endswith(_COUNTER)}


def misfits_of(
    state: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], *, optional: Iterable[str] = ()
) -> list[str]:
    """The differences between a state and the wanted one: missing names, unknown names, other shapes."""
    missing = [f"{name} is missing" for name in wanted.keys() - state.keys() - set(optional)]
    unknown = [f"{label(name)} is unknown" for name in state.keys() - wanted.keys()]
    shapes = [
        f"{name} has shape {tuple(state[name].shape)}, wanted {tuple(wanted[name])}"
        for name in state.keys() & wanted.keys()
        if state[name].shape != wanted[name]
    ]
    return sorted(missing) + sorted(unknown) + sorted(shapes)


def check_fit(misfits: list[str], arch: str, where: str, reason: str | None = None) -> None:
    """Raise WeightsError if there are any misfits; ``reason``: what other network they are known to be of."""
    if misfits:
        more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        why = f"; it has {reason}, and another function than {arch}" if reason else ""
        raise WeightsError(
            f"{where}: {len(misfits)} tensors do not fit {arch}: {', '.join(misfits[:_SHOWN])}{more}{why}"
        )


@lru_cache
def resnet_shapes(arch: str, stem: str) -> dict[str, torch.Size]:
    """The names and shapes of an encoder's tensors, batch-norm buffers included."""
    with torch.device("meta"):
        module = build_encoder(arch, stem, seed=0)
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def resnet_width(arch: str) -> int:
    """Length of the features of a ResNet."""
    parsed = architecture(arch)
    return RESNETS[parsed.name] * parsed.numbers.get("width", WIDTH)


def shapes_of(facts: EncoderFacts) -> dict[str, torch.Size]:
    """The names and shapes of the tensors of an encoder with these facts. Raises WeightsError if there is none."""
    if not architecture(facts.arch).is_vit:
        return resnet_shapes(facts.arch, facts.stem)
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in built(facts).state_dict().items()}


def plain(state: Mapping[str, Tensor], names: Iterable[str], where: str) -> dict[str, Tensor]:
    """The named tensors as torchvision's own module holds them: float32, and int64 counters.

    Raises:
        WeightsError: one is not of floating point, or not finite.
    """
    return {name: _plain(name, state[name], where) for name in names}


def _plain(name: str, tensor: Tensor, where: str) -> Tensor:
    if name.endswith(_COUNTER):
        return tensor.to(torch.int64)
    if not tensor.is_floating_point():
        raise WeightsError(f"{where}: {name} is of {tensor.dtype}; wanted floating point")
    floats = tensor.detach().to(torch.float32).contiguous()
    if not bool(floats.isfinite().all()):
        raise WeightsError(f"{where}: {name} is not finite; the run that wrote it had diverged")
    return floats
