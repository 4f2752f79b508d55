"""How deep and how large an object is to those who walk through it: a small file can make that endless."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from .limits import Malformed
from .records import Opaque

DEPTH = 500
UNFOLDED = 20_000_000  # objects, those in several places counted in each


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
