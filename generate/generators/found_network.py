"""Find the generator in a weights file, below any prefix and in any container (``genrep.state_dicts``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import (
    AVERAGES,
    IDLE,
    WRAPPERS,
    CheckpointContent,
    as_choice,
    bare,
    below,
    equal,
    flatten,
    grouped,
    idle_groups,
    pick,
    prefixes,
    shown_prefix,
    words,
)


@dataclass(frozen=True, kw_only=True)
class FoundNetwork:
    """A network of the file under its own names."""

    tensors: dict[str, Tensor]  # without counters and other tensors that the function does not use
    modules: dict[str, Mapping[str, Any]]  # its pickled modules' attributes, by what stands before their tensors' names
    prefix: str
    paths: dict[str, str]  # the full names in the file
    content: CheckpointContent

    def nearest(self, name: str) -> str | None:
        """The full name of the tensor of this name in the network, or in the innermost container around it that has one."""
        around = self.prefix
        while True:
            if around + name in self.content.tensors:
                return around + name
            if not around:
                return None
            around = "".join(f"{part}." for part in around.rstrip(".").split(".")[:-1])

    def notes(self, used: Iterable[str]) -> tuple[str, ...]:
        """Notes: where the network was found, and what was left out. ``used``: the tensors taken, by own or full names."""
        taken = {self.paths.get(name, name) for name in used}
        idle = {path for name, path in self.paths.items() if IDLE.search(name)}
        rest = grouped((name for name in self.content.tensors if name not in taken | idle), self.prefix)
        rest += idle_groups(path.removeprefix(self.prefix) for path in idle)
        found = (f"took the generator at {shown_prefix(self.prefix)}",) if self.prefix else ()
        return (*found, *((f"left out: {', '.join(rest)}",) if rest else ()))


def find_network(
    content: object, marks: Iterable[str], where: str, *, every: bool = False, network: str | None = None
) -> FoundNetwork | None:
    """The generator that has one of these names (with ``every``: all of them); None if there is none.

    Of several it is the averaged one, or the one that the user names (``network``: its prefix, or the last parts of it).

    Raises:
        WeightsError: it is not clear which, or a training checkpoint has only the one that is not averaged.
        NoSuchNetwork: there are some, but none of the user's name.
    """
    if not isinstance(content, Mapping) and not hasattr(content, "state"):
        return None
    try:
        held = flatten(content, where)
    except WeightsError:
        if not isinstance(content, Mapping):  # a record of something else
            return None
        raise
    tensors, marks = held.tensors, list(marks)
    found = [prefix for mark in marks for prefix in prefixes(tensors, mark)]
    counts = {prefix: found.count(prefix) for prefix in dict.fromkeys(found)}
    known = [prefix for prefix, count in counts.items() if count == len(marks) or not every]
    if not known:
        return None
    states = {prefix: below(tensors, prefix, where, without=known) for prefix in known}

    def same(one: str, other: str) -> bool:
        mine, theirs = states[one], states[other]
        return mine.keys() == theirs.keys() and all(equal(tensors[mine[name]], tensors[theirs[name]]) for name in mine)

    prefix = pick(known, same, averaged=True, choice=network, where=where, what="generator")
    last = next((part for part in reversed(prefix.rstrip(".").split(".")) if part not in WRAPPERS), "")
    if network is None and last in ("g", "G") and AVERAGES.isdisjoint(words(prefix)):
        raise WeightsError(
            f"{where}: a training checkpoint without '{last}_ema', the averaged generator; "
            f"{as_choice(where, prefix)} selects the other"
        )
    return FoundNetwork(
        tensors={name: tensors[path] for name, path in states[prefix].items() if not IDLE.search(name)},
        modules={
            _own(name, prefix): attributes for name, attributes in held.modules.items() if name.startswith(prefix)
        },
        prefix=prefix,
        paths=states[prefix],
        content=held,
    )


def _own(name: str, prefix: str) -> str:
    inner = bare(name.removeprefix(prefix).rstrip("."))
    return f"{inner}." if inner else ""
