"""Where a checkpoint keeps its ResNet, and under which names: everybody's layout becomes torchvision's.

A checkpoint is one long list of dotted names, whatever its nesting: ``state_dict`` -> ``module.encoder_q.conv1.weight`` is
``state_dict.module.encoder_q.conv1.weight``. A ResNet is in it wherever one prefix stands before a first convolution and
four layers of blocks:

    torchvision, timm, Barlow Twins    conv1 bn1 layer1.0.conv1 layer1.0.downsample.0
    MoCo, SimSiam, BYOL, Lightning     the same below module.encoder_q. · module.encoder. · online_network. · backbone. · …
    GenRep, COP-Gen, SupContrast       stem.0 stem.1, or conv1 bn1; layer1.0.shortcut.0
    nn.Sequential(*resnet.children())  0 1 4.0.conv1 (lightly, and many of Lightning's)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from genrep.errors import WeightsError

from . import ARCHS
from .networks import build_encoder

_LAYER = re.compile(r"(?P<prefix>(?:.*\.)?)(?:layer(?P<layer>[1-4])|(?P<child>[4-7]))\.0\.conv1\.weight")
_FIRST = ("conv1.weight", "stem.0.weight", "0.weight")
_PART = r"(?:stem|conv1|bn1|layer[1-4]|[014567])\."
_RENAMES = (
    (re.compile(r"^(?:stem\.)?0\."), "conv1."),
    (re.compile(r"^(?:stem\.)?1\."), "bn1."),
    (re.compile(r"^([4-7])\."), lambda found: f"layer{int(found[1]) - 3}."),
    (re.compile(r"^(layer[1-4]\.\d+)\.shortcut\."), r"\1.downsample."),
)
# What stands beside a backbone and takes no part in its features, by the beginnings of the words of its name.
_BESIDE = re.compile(
    r"(?:^|_)(?:fc|head|classif|linear|proj|pred|mlp|last_layer|prototype|queue|logit|temperature|loss|criterion|optim|sched"
    r"|target|teacher|momentum|ema|key|decoder|generator|discriminator|knn|probe|scaler)"
)
_AVERAGED = {"k", "key", "target", "teacher", "momentum", "ema", "averaged", "slow", "shadow", "swa"}
_COUNTER = "num_batches_tracked"
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class FoundResNet:
    """A complete ResNet under torchvision's names, without ``fc``."""

    arch: str
    stem: str
    state: dict[str, Tensor]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def find_resnet(content: object, where: str) -> FoundResNet:
    """The one ResNet in what a checkpoint holds.

    Args:
        content: dictionaries of tensors, nested as they like.
        where: the file, for messages.

    Raises:
        WeightsError: there is none, it is not clear which, or some of its tensors are missing, unknown, of another shape or
            not finite: nothing is ever left at its random initialisation.
    """
    tensors = _flatten(content, where)
    prefix, others, notes = _choose(tensors, where)
    state, beside = _translate(tensors, prefix, others, where)
    stem = "cifar" if "conv1.weight" in state and state["conv1.weight"].shape[2:] == (3, 3) else "imagenet"
    if stem == "cifar":
        notes.append("the 3x3 stem is read as one of stride 1 without pooling: shapes do not tell")
    counters = {name for name in resnet_shapes("resnet152", stem) if name.endswith(_COUNTER)} - state.keys()
    arch, misfits = min(
        ((arch, misfits_of(state, resnet_shapes(arch, stem), optional=counters)) for arch in ARCHS),
        key=lambda pair: len(pair[1]),
    )
    check_fit(misfits, arch, where)
    wanted = resnet_shapes(arch, stem)
    for name in wanted.keys() - state.keys():  # files of PyTorch before 0.4.1 have none; features do not depend on them
        state[name] = torch.zeros((), dtype=torch.int64)
    return FoundResNet(
        arch=arch,
        stem=stem,
        state=plain(state, wanted, where),
        left_out=_grouped(beside, prefix),
        notes=tuple(notes),
    )


def misfits_of(
    state: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], *, optional: Iterable[str] = ()
) -> list[str]:
    """What keeps a state from being exactly the wanted one: missing names, unknown names, other shapes."""
    missing = [f"{name} is missing" for name in wanted.keys() - state.keys() - set(optional)]
    unknown = [f"{name} is unknown" for name in state.keys() - wanted.keys()]
    shapes = [
        f"{name} has shape {tuple(state[name].shape)}, wanted {tuple(wanted[name])}"
        for name in state.keys() & wanted.keys()
        if state[name].shape != wanted[name]
    ]
    return sorted(missing) + sorted(unknown) + sorted(shapes)


def check_fit(misfits: list[str], arch: str, where: str) -> None:
    """Raise WeightsError if there are any misfits."""
    if misfits:
        more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise WeightsError(f"{where}: {len(misfits)} tensors do not fit {arch}: {', '.join(misfits[:_SHOWN])}{more}")


@lru_cache
def resnet_shapes(arch: str, stem: str) -> dict[str, torch.Size]:
    """The names and shapes of an encoder's tensors, batch-norm buffers included."""
    with torch.device("meta"):
        module = build_encoder(arch, stem, seed=0)
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _flatten(content: object, where: str) -> dict[str, Tensor]:
    """Every tensor by its dotted name; each dictionary is visited once, so that none can hold itself."""
    if not isinstance(content, Mapping):
        kind = getattr(content, "name", type(content).__name__)
        raise WeightsError(f"{where}: it holds a {kind}; wanted a dictionary of tensors, as of model.state_dict()")
    found: dict[str, Tensor] = {}
    seen = {id(content)}
    left: list[tuple[str, Mapping[object, object]]] = [("", content)]
    while left:
        prefix, folder = left.pop()
        for key, value in folder.items():
            name = f"{prefix}{key}"
            if isinstance(value, Tensor):
                if name in found:
                    raise WeightsError(f"{where}: it holds two tensors {name}")
                found[name] = value
            elif isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                left.append((f"{name}.", value))
    if not found:
        raise WeightsError(f"{where}: it holds no tensors by name; wanted a ResNet's state_dict()")
    return found


def _choose(tensors: Mapping[str, Tensor], where: str) -> tuple[str, list[str], list[str]]:
    """The prefix before the ResNet's names, those of others in the file, and what is to be said about it."""
    layers: dict[str, set[int]] = {}
    for name in tensors:
        if found := _LAYER.fullmatch(name):
            number = int(found["layer"] or int(found["child"]) - 3)
            layers.setdefault(found["prefix"], set()).add(number)
    prefixes = [
        prefix
        for prefix, numbers in layers.items()
        if len(numbers) > 2 or any(prefix + first in tensors for first in _FIRST)
    ]
    if not prefixes:
        some = ", ".join(sorted(tensors)[:4])
        raise WeightsError(
            f"{where}: no ResNet among its {len(tensors)} tensors ({some}, …); "
            "wanted conv1.weight, layer1.0.conv1.weight, …, below any prefix"
        )
    learned = [prefix for prefix in prefixes if not _is_averaged(prefix)] or prefixes
    chosen = min(learned, key=len)
    if not all(_same(tensors, chosen, other) for other in learned if other != chosen):
        names = ", ".join(prefix.rstrip(".") or "its top level" for prefix in sorted(learned))
        raise WeightsError(f"{where}: it holds {len(learned)} different ResNets ({names}); wanted one, or one trained")
    averaged = [prefix.rstrip(".") for prefix in prefixes if prefix not in learned]
    note = f"took the ResNet at {chosen.rstrip('.') or 'its top level'}" if chosen or averaged else ""
    if averaged:
        note += f", not the average at {' and '.join(averaged)}"
    return chosen, [prefix for prefix in prefixes if prefix != chosen], [note] if note else []


def _is_averaged(prefix: str) -> bool:
    """Whether this is the network that follows the trained one: MoCo's key encoder, BYOL's target, an EMA."""
    return not _AVERAGED.isdisjoint(re.split(r"[._]", prefix.lower()))


def _same(tensors: Mapping[str, Tensor], one: str, other: str) -> bool:
    """Whether one network is in the file twice, as an attribute of two modules."""
    first, second = (
        {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if re.match(re.escape(prefix) + _PART, name)
        }
        for prefix in (one, other)
    )
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def _translate(
    tensors: Mapping[str, Tensor], prefix: str, others: list[str], where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors below the prefix under torchvision's names, and the full names of those that stand beside."""
    state: dict[str, Tensor] = {}
    beside: list[str] = []
    inner = tuple(other for other in others if other.startswith(prefix))
    for full, tensor in tensors.items():
        name = full.removeprefix(prefix)
        if (
            not full.startswith(prefix)
            or (inner and full.startswith(inner))
            or _BESIDE.search(name.partition(".")[0].lower())
        ):
            beside.append(full)
            continue
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        if name in state:
            raise WeightsError(f"{where}: it holds two tensors for {name}")
        state[name] = tensor
    return state, beside


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


def _grouped(names: Iterable[str], prefix: str) -> tuple[str, ...]:
    """One line for each module that is not used: down to the first part of the name that differs from the prefix."""
    ours = prefix.rstrip(".").split(".")
    groups: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        common = next((i for i, (part, own) in enumerate(zip(parts, ours)) if part != own), min(len(parts), len(ours)))
        groups[".".join(parts[: common + 1]) if prefix else parts[0]] += 1
    return tuple(f"{name} ({count} tensor{'s' * (count > 1)})" for name, count in sorted(groups.items()))
