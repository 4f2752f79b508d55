"""The vision transformer in a checkpoint of any layout, whole or not at all.

Of several networks the one that its authors evaluate is taken: DINO's teacher and an average (EMA), but MoCo's trained encoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import (
    AVERAGES,
    FOLLOWERS,
    as_choice,
    below,
    equal,
    flatten,
    grouped,
    idle_groups,
    own_words,
    pick,
    shown_prefix,
)

from .. import EncoderFacts
from ..layouts import check_fit, misfits_of, plain, shapes_of
from .facts import described
from .families import family_of
from .names import candidates, reason, translated
from .told import Told, told_by

_EVALUATED = AVERAGES | {"teacher"}  # words of networks that their authors evaluate, beside trained ones
_COUNTER = "num_batches_tracked"
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class FoundTransformer:
    """A complete vision transformer under timm's names."""

    facts: EncoderFacts
    state: dict[str, Tensor]
    prefix: str  # before its names in the file
    digest: str | None  # of what made another network of the file's tensors than they alone; None: nothing did
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def find_transformer(
    content: object,
    where: str,
    network: str | None = None,
    *,
    path: Path | None = None,
    safe: bool = False,
    heads: int | None = None,
    act_layer: str | None = None,
) -> FoundTransformer | None:
    """The vision transformer in what a checkpoint holds; None if there is nothing like one.

    Args:
        content: dictionaries, lists and pickled modules with tensors or arrays, nested as they like.
        where: the file, for messages.
        network: which of several, by the prefix of its names, or the last parts of that.
        path: the file, to read the configuration that lies beside it; None: of no file.
        safe: whether it is of safetensors.
        heads, act_layer: the user's, in place of the file's.

    Raises:
        WeightsError: the choice is not clear, what is told does not fit, or some tensors are missing, unknown, misshapen or not
            finite: nothing is ever left at its random initialisation.
    """
    tensors = flatten(content, where).tensors
    known = candidates(tensors)
    if not known:
        return None
    chosen, others = _chosen(tensors, known, network, where)
    names = below(tensors, chosen, where, without=list(known))
    found = translated(names, tensors, known[chosen], where)
    told = told_by(content, path, known[chosen], where)
    kind = family_of(found.state, tensors, chosen, told, safe=safe)
    made = described(found.state, kind, told, heads=heads, act_layer=act_layer)
    wanted = _wanted(made.facts, where)
    counters = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith(_COUNTER)}
    misfits = misfits_of(made.state, wanted, optional=counters)
    check_fit(
        misfits, made.facts.arch, where, reason(made.state.keys() - wanted.keys(), wanted.keys() - made.state.keys())
    )
    beside = grouped((name for name in tensors if name not in found.used), chosen)
    asked = {"heads": heads, "act_layer": act_layer, "config": list(told.files)}
    return FoundTransformer(
        facts=made.facts,
        state=plain({**counters, **made.state}, wanted, where),
        prefix=chosen,
        digest=_digest(made.facts) if any(asked.values()) else None,
        left_out=(*beside, *idle_groups(found.idle)),
        notes=(
            *made.notes,
            *_origin_said(kind, chosen, told),
            *_choice_said(chosen, others, where, asked=network is not None),
        ),
    )


def _wanted(facts: EncoderFacts, where: str) -> Mapping[str, torch.Size]:
    try:
        return shapes_of(facts)
    except WeightsError as error:
        raise WeightsError.naming("{}: {}", where, error) from None


def _digest(facts: EncoderFacts) -> str:
    return hashlib.sha256(json.dumps([facts.arch, dict(facts.model)], sort_keys=True).encode()).hexdigest()


def _chosen(
    tensors: Mapping[str, Tensor], known: Mapping[str, str], network: str | None, where: str
) -> tuple[str, list[str]]:
    """The prefix of the network that is meant, and those of others."""
    found = list(known)
    parts = {prefix: below(tensors, prefix, where, without=found) for prefix in found}

    def same(one: str, other: str) -> bool:
        mine, theirs = (translated(parts[prefix], tensors, known[prefix], where).state for prefix in (one, other))
        return mine.keys() == theirs.keys() and all(equal(mine[name], theirs[name]) for name in mine)

    wanted = found
    if network is None:
        evaluated = [prefix for prefix in found if not _EVALUATED.isdisjoint(own_words(prefix, found))]
        trained = [prefix for prefix in found if FOLLOWERS.isdisjoint(own_words(prefix, found))]
        wanted = evaluated or trained or found
    taken = pick(wanted, same, averaged=False, choice=network, where=where, what="vision transformer")
    return taken, [prefix for prefix in found if prefix != taken and not same(prefix, taken)]


def _origin_said(kind: str, prefix: str, told: Told) -> list[str]:
    said = [f"read beside it: {name}" for name in told.files]
    if kind == "dino" and {"student", "teacher"}.isdisjoint(prefix.split(".")):
        said.append("whose it is: not in the file; assuming DINO's, which interpolates positions in its own way")
    return said


def _choice_said(chosen: str, others: list[str], where: str, *, asked: bool) -> list[str]:
    if not chosen and not others:
        return []
    note = f"took the network at {shown_prefix(chosen)}"
    if others:
        more = " and more" if len(others) > _SHOWN else ""
        names = " and ".join(map(shown_prefix, others[:_SHOWN])) + more
        why = "as asked" if asked else "which authors evaluate"
        note += f", {why}, not the one at {names} ({as_choice(where, others[0])} takes that)"
    return [note]
