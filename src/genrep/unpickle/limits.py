"""Bounds on the cost of reading a file, so that a small hostile one cannot take all memory or time.

They count operations, bytes, keys whose hashes the file can choose, and the depth and size of an object when it is walked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from .records import Global, Opaque

OPERATIONS = 4_000_000  # sixty times what a StyleGAN2 snapshot of 64 pixels takes, with G, D and G_ema in it
CALL_COST = 10  # a call costs about as much time and memory as ten other operations
SET_COST = 4  # an empty set takes 216 bytes
NAME_COST = 2  # a class's name takes 150 bytes, an empty list 56
ODD_KEYS = 5_000  # tuples and floats as keys: their hashes are not random, and colliding ones take quadratic time
NESTING = 3  # files in files: a snapshot's storages are one deep
DEPTH = 500
UNFOLDED = 20_000_000  # objects, those in several places counted in each
_SMALL = 1 << 60  # below it an integer is its own hash: collisions cannot be made
_DEPTH = 8
_FREE = 1 << 24  # bytes that a file of any size may allocate
_SHOWN = 60  # characters of the file's text in a message


class Malformed(ValueError):
    """The file is damaged, hostile, or uses what we do not read; the message says which, without the file's name."""


@dataclass
class ReadingLimits:
    """One file's allowance, shared with the files nested in it. ``size``: bytes in the file."""

    size: int
    operations: int = OPERATIONS
    odd_keys: int = ODD_KEYS
    nesting: int = NESTING
    copied: int = field(init=False, default=0)
    viewed: int = field(init=False, default=0)

    def operate(self, count: int) -> None:
        """Count pickle operations. Raises Malformed past OPERATIONS."""
        self.operations -= count
        if self.operations < 0:
            raise Malformed(f"its pickle takes more than {OPERATIONS} operations, which no weights file needs")

    def copy(self, count: int) -> None:
        """Count bytes that arrays, storages and strings are about to take: each byte of the file once, with room."""
        self.copied += count
        if self.copied > 3 * self.size + _FREE:
            raise Malformed(f"its objects need more than three times the file's {self.size} bytes")

    def view(self, count: int) -> None:
        """Count bytes in tensors that share storages: they cost nothing until someone copies each of them."""
        self.viewed += count
        if self.viewed > 8 * self.size + _FREE:
            raise Malformed(f"its tensors claim more than eight times the file's {self.size} bytes")

    def odd_key(self) -> None:
        """Count a dictionary's key whose hash the file can choose."""
        self.odd_keys -= 1
        if self.odd_keys < 0:
            raise Malformed(f"it has more than {ODD_KEYS} keys that are neither text nor small integers")


def show(value: object) -> str:
    """Something from the file, for a message: one line, printable, and short."""
    if isinstance(value, str):
        text = ascii(value[:_SHOWN])
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if isinstance(value, int) and abs(value) < 1 << 64:
        return str(value)
    return f"a {type(value).__name__}"


def check_key(key: object, limits: ReadingLimits) -> None:
    """Raises Malformed for a key that cannot be hashed, or whose hash could be made to take long."""
    if type(key) is str or key is None or isinstance(key, Global):
        return
    if isinstance(key, int) and -_SMALL < key < _SMALL:
        return
    limits.odd_key()
    if not _hashable(key, _DEPTH, limits):
        raise Malformed(f"it has a dictionary with {show(key)} as key")


def _hashable(key: object, depth: int, limits: ReadingLimits) -> bool:
    if isinstance(key, tuple | frozenset) and depth:
        limits.operate(len(key))
        return all(_hashable(part, depth - 1, limits) for part in key)
    return key is None or isinstance(key, str | int | float | complex | bytes | np.number | np.bool_ | Global)


@dataclass
class _Visit:
    node: Any
    children: Iterator[Any] = field(init=False)
    count: int = 1

    def __post_init__(self) -> None:
        self.children = _children(self.node)


def check_nesting(root: Any) -> None:
    """Raises Malformed if a walk down from ``root`` goes deeper than DEPTH or takes more than UNFOLDED steps.

    Cycles are followed once: modules may well know their parents, and who walks must mind that.
    """
    counts: dict[int, int] = {}  # by id, of objects all of whose contents have been seen
    path, on_path = [_Visit(root)], {id(root)}
    while path:
        visit = path[-1]
        for child in visit.children:
            if not _has_children(child):  # an empty container neither: millions of them would fill ``counts``
                visit.count += 1
            elif (count := counts.get(id(child))) is not None:
                visit.count += count
            elif id(child) not in on_path:
                path.append(_Visit(child))
                on_path.add(id(child))
                break
        else:
            path.pop()
            on_path.remove(id(visit.node))
            counts[id(visit.node)] = visit.count
            if path:
                path[-1].count += visit.count
        if len(path) > DEPTH or visit.count > UNFOLDED:
            raise Malformed("its objects are nested endlessly")


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, Opaque):
        return chain((node.args, node.kwargs, node.state), node.items)
    if isinstance(node, dict):
        return iter(node.values())
    if _holds_object(node):
        return iter([node.item()])
    return iter(node) if isinstance(node, list | tuple | set | frozenset) else iter(())


def _has_children(node: Any) -> bool:
    if isinstance(node, dict | list | tuple | set | frozenset):
        return len(node) > 0
    return isinstance(node, Opaque) or _holds_object(node)


def _holds_object(node: Any) -> bool:
    return isinstance(node, np.ndarray) and node.dtype.hasobject
