"""Records for names in a pickle, which we neither import nor call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Global:
    """A class or function that a pickle mentions, e.g. ``torch.nn.modules.activation.ReLU``: its name, nothing else."""

    name: str


@dataclass(eq=False, slots=True)
class Opaque:
    """An object that a pickle would have built by calling ``name``: the inert record of the call and of its state."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None  # what BUILD would have set: an object's __dict__, or None
    items: list[Any] = field(default_factory=list)  # of a subclass of list or set; (key, value) pairs of one of dict
