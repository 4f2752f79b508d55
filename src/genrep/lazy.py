"""Names that a package offers and imports only when they are asked for: ``--help`` waits for no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``; ``homes`` says for each name in which module below the package it is.

    >>> lazy("genrep", {"flag": "errors"})("flag")("num_pairs")
    '--num-pairs'
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return get
