"""Networks in what a checkpoint holds: its tensors by dotted name, what stands before a network's names, and which is meant.

One rule for encoders and generators. However a file nests its dictionaries, lists and pickled modules, it is one list of
names: ``state_dict`` -> ``module.encoder_q.conv1.weight`` is ``state_dict.module.encoder_q.conv1.weight``. A network is
wherever one prefix stands before its own names. Words that wrappers add (DataParallel, torch.compile, FSDP) are passed over
wherever they stand. Of several networks the one that was trained is meant in an encoder's file, the averaged one in a
generator's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import WeightsError
from .unpickle import Opaque
from .untrusted import label

# Parts of a name that a wrapper adds: DataParallel and DDP, torch.compile, FSDP, activation checkpoints, Fabric and DeepSpeed.
WRAPPERS = frozenset(
    {
        "module",
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_fpw_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
        "_original_module",
    }
)
AVERAGES = frozenset({"avg", "average", "averaged", "ema", "moving", "polyak", "running", "shadow", "slow", "swa"})
# Words of networks that follow the trained one, or serve its loss: MoCo's key encoder, BYOL's target, DINO's teacher.
FOLLOWERS = AVERAGES | {"criterion", "k", "key", "loss", "momentum", "target", "teacher"}
# What others keep in a network without changing its function: counters of thop and torchstat, FSDP's and TransformerEngine's
# state, ranges that training for quantisation observed.
IDLE = re.compile(
    r"(?:^|\.)(total_\w+|_*(?:flops|macs|params)_*|MAdd|Flops|Memory|duration|inference_memory|parameter_quantity"
    r"|(?:input|output)_shape|_extra_state|n_averaged|\w*(?:_post_process|fake_quant|observer|quantizer|_quant)\w*)(?:\.|$)"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LONGEST = (
    2000  # characters of a dotted name: a key may stand at every level of a nest, so that names could grow endlessly
)
_GROUPS = 30  # lines of tensors that are left out, each told with its name


@dataclass(frozen=True)
class CheckpointContent:
    """The content of a checkpoint. ``modules``: the attributes of pickled modules, by the prefix of their tensors' names;
    ``classes``: what made them, by the same.
    """

    tensors: dict[str, Tensor]
    modules: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)


class NoSuchNetwork(WeightsError):
    """A file has networks of the wanted kind, but not the one that was asked for."""


def flatten(content: object, where: str) -> CheckpointContent:
    """Every tensor, and array of numbers, by its dotted name. Each container is visited once: none can hold itself.

    Raises WeightsError if it is not a container, or a name is endless or stands for two tensors.
    """
    if not isinstance(content, Mapping) and module_attributes(content) is None:
        kind = getattr(content, "name", type(content).__name__)
        raise WeightsError(
            f"{where}: it holds a {label(kind)}; wanted a dictionary of tensors, as of model.state_dict()"
        )
    tensors: dict[str, Tensor] = {}
    modules: dict[str, Mapping[str, Any]] = {}
    classes: dict[str, str] = {}
    converted: dict[int, Tensor] = {}  # an array may stand in many places, and is copied once
    seen = {id(content)}
    left: list[tuple[str, object]] = [("", content)]
    while left:
        prefix, folder = left.pop()
        if isinstance(folder, Opaque) and (attributes := module_attributes(folder)) is not None:
            modules[prefix], classes[prefix] = attributes, folder.name
        for key, value in _members(folder):
            name = f"{prefix}{key if isinstance(key, str | int) else label(key)}"
            if len(name) > _LONGEST:
                raise WeightsError(
                    f"{where}: {label(name)} is a name of {len(name):,} characters; wanted {_LONGEST} at most"
                )
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc" and id(value) not in converted:
                converted[id(value)] = torch.from_numpy(np.array(value))
            tensor = value if isinstance(value, Tensor) else converted.get(id(value))
            if tensor is not None:
                if name in tensors:
                    raise WeightsError(f"{where}: it holds two tensors {label(name)}")
                tensors[name] = tensor
            elif isinstance(value, Mapping | list | tuple | Opaque) and id(value) not in seen:
                seen.add(id(value))
                left.append((f"{name}.", value))
    return CheckpointContent(tensors, modules, classes)


def module_attributes(value: object) -> dict[str, Any] | None:
    """The ``__dict__`` of a pickled module of any class; None if it is not a module."""
    if not isinstance(value, Opaque):
        return None
    fields = value.state
    if is_program(value):  # parameters, buffers and modules are attributes among others
        return {"_parameters": fields, "_buffers": {}, "_modules": {}} if isinstance(fields, dict) else None
    if fields is None and isinstance(value.args, tuple) and value.args and isinstance(value.args[0], dict):
        fields = value.args[0].get("state")  # how StyleGAN2-ADA pickles modules
    if not isinstance(fields, dict):
        return None
    return fields if all(isinstance(fields.get(name), dict) for name in _GROUPS_OF_MODULES) else None


def is_program(content: object) -> bool:
    """Whether this is a module of a TorchScript program, of which the code is elsewhere."""
    return isinstance(content, Opaque) and content.name.startswith("__torch__.")


_GROUPS_OF_MODULES = ("_parameters", "_buffers", "_modules")


def _members(folder: object) -> Iterator[tuple[object, object]]:
    if isinstance(folder, Mapping):
        yield from folder.items()
    elif isinstance(folder, list | tuple):
        yield from enumerate(folder)
    elif (attributes := module_attributes(folder)) is not None:
        for group in _GROUPS_OF_MODULES:
            yield from attributes[group].items()


def bare(name: str) -> str:
    """A name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def split(name: str, count: int) -> tuple[str, str] | None:
    """The prefix of a name's last ``count`` parts that no wrapper added, and those parts; None if it has fewer."""
    parts = name.split(".")
    kept: list[str] = []
    while parts and len(kept) < count:
        part = parts.pop()
        if part not in WRAPPERS:
            kept.append(part)
    if len(kept) < count:
        return None
    return "".join(f"{part}." for part in parts), ".".join(reversed(kept))


def prefixes(names: Iterable[str], mark: str) -> list[str]:
    """The prefixes of the name ``mark`` wherever it is found."""
    count = mark.count(".") + 1
    found = (split(name, count) for name in names if name.endswith(mark.rpartition(".")[2]))
    return list(dict.fromkeys(one[0] for one in found if one is not None and one[1] == mark))


def below(names: Mapping[str, Tensor], prefix: str, where: str, *, without: Sequence[str] = ()) -> dict[str, str]:
    """The names below a prefix as the network itself has them, each with its full name in the file.

    ``without``: prefixes of other networks, whose names are passed over. Raises WeightsError where two different tensors
    have one name when the wrappers' parts are gone.
    """
    found: dict[str, str] = {}
    inner = tuple(other for other in without if other.startswith(prefix) and other != prefix)
    for full, tensor in names.items():
        if not full.startswith(prefix) or (inner and full.startswith(inner)):
            continue
        name = bare(full.removeprefix(prefix))
        if name in found and not equal(names[found[name]], tensor):
            raise WeightsError(f"{where}: it holds two tensors for {label(name)}")
        found.setdefault(name, full)
    return found


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same in kind, shape and value."""
    return one is other or (one.dtype == other.dtype and one.shape == other.shape and bool(torch.equal(one, other)))


def pick(
    found: Sequence[str],
    same: Callable[[str, str], bool],
    *,
    averaged: bool,
    choice: str | None,
    where: str,
    what: str,
) -> str:
    """Which of several networks is meant, by their prefixes.

    Args:
        same: whether two prefixes stand before one network, which is in the file twice.
        averaged: take the average of the trained network (a generator's), not the trained one (an encoder's).
        choice: the user's, a prefix or its last parts, with or without those of wrappers; "." is the top level. Of an
            encoder also any of its parts, if they are of no other: "student" of ``student.module.backbone``.
        where, what: the file and the kind of network, for messages.

    Raises:
        WeightsError: it is not clear which.
        NoSuchNetwork: the choice is not among them.
    """
    if choice is not None:
        return _chosen(found, choice, where, what, parts=not averaged)
    marked = {
        prefix for prefix in found if not (AVERAGES if averaged else FOLLOWERS).isdisjoint(own_words(prefix, found))
    }
    wanted = [prefix for prefix in found if (prefix in marked) == averaged] or list(found)
    first = min(wanted, key=len)
    if not all(same(first, other) for other in wanted if other != first):
        more = ", …" if len(wanted) > _SHOWN else ""
        names = ", ".join(shown_prefix(prefix) for prefix in sorted(wanted)[:_SHOWN]) + more
        options = " or ".join(as_choice(where, prefix) for prefix in sorted(wanted)[:_SHOWN])
        raise WeightsError(f"{where}: it holds {len(wanted)} different {what}s ({names}); name one: {options}")
    return first


_SHOWN = 6


def shown_prefix(prefix: str) -> str:
    """A prefix for a message."""
    return label(prefix.rstrip(".")) or "its top level"


def as_choice(where: str, prefix: str) -> str:
    """How a user names this network of a file. ``where`` is the file, or begins a message with it ("weights FILE")."""
    return f"{where.removeprefix('weights ')}#{label(prefix.rstrip('.')) or '.'}"


def _chosen(found: Sequence[str], choice: str, where: str, what: str, *, parts: bool) -> str:
    wanted = "" if choice == "." else f"{choice.strip('.')}."
    fits = [prefix for prefix in found if prefix == wanted]
    for form in (str, bare):  # a user need not know of what wraps a network
        fits = fits or [prefix for prefix in found if wanted and f".{form(prefix)}".endswith(f".{form(wanted)}")]
    if parts and not fits:
        fits = [prefix for prefix in found if wanted and f".{bare(wanted)}" in f".{bare(prefix)}"]
    if len(fits) == 1:
        return fits[0]
    options = ", ".join(as_choice(where, prefix) for prefix in sorted(found)[:_SHOWN])
    raise NoSuchNetwork(
        f"{where}#{label(choice)}: names {len(fits)} of its {len(found)} {what}s; wanted one of {options}"
    )


def own_words(prefix: str, found: Sequence[str]) -> set[str]:
    """The words of a prefix, without the parts that all prefixes begin with: a folder's name tells nothing."""
    parts = [other.split(".") for other in found]
    shared = 0
    while len(found) > 1 and all(len(one) > shared for one in parts) and len({one[shared] for one in parts}) == 1:
        shared += 1
    return words(".".join(prefix.split(".")[shared:]))


def words(prefix: str) -> set[str]:
    """The words of a dotted name, of snake_case and camelCase, in lower case."""
    return {word.lower() for word in _WORD.findall(prefix)}


def grouped(names: Iterable[str], prefix: str) -> tuple[str, ...]:
    """One line for each module that is not used: down to the first part of the name that differs from the prefix."""
    ours = prefix.rstrip(".").split(".")
    groups: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        common = next((i for i, (part, own) in enumerate(zip(parts, ours)) if part != own), min(len(parts), len(ours)))
        groups[".".join(parts[: common + 1]) if prefix else parts[0]] += 1
    lines = [f"{label(name)} ({plural(count)})" for name, count in sorted(groups.items())]
    if len(lines) > _GROUPS:
        rest = sum(count for _, count in sorted(groups.items())[_GROUPS:])
        lines[_GROUPS:] = [f"{len(lines) - _GROUPS} more ({plural(rest)})"]
    return tuple(lines)


def idle_groups(names: Iterable[str]) -> tuple[str, ...]:
    """One line for each kind of those names that take no part (``IDLE``)."""
    groups = Counter(found[1] for name in names if (found := IDLE.search(name)) is not None)
    return tuple(
        f"{label(name)} ({plural(count)} that take{'s' * (count == 1)} no part)"
        for name, count in sorted(groups.items())
    )


def plural(count: int) -> str:
    """A number of tensors in words."""
    return f"{count} tensor{'s' * (count != 1)}"
