"""Modules imported on first use: a package's names, and a user's ``package.module:factory``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .errors import GenRepError


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


def find_factory(name: str, setting: str, returns: str, error: type[GenRepError]) -> Callable[..., Any]:
    """Import the function that ``package.module:factory`` names, also from the current folder.

    Args:
        setting: that the name was given by, and ``returns``, what the function is to return: for messages.

    Raises ``error`` in one line if it cannot be imported or called.
    """
    module_name, _, attribute = name.partition(":")
    subject = f"{{{setting}}} {{}}"
    try:
        with _current_folder_importable():
            factory: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                factory = getattr(factory, part)
    except (ImportError, AttributeError, ValueError) as problem:
        top = module_name.partition(".")[0]
        lacks = isinstance(problem, ModuleNotFoundError) and problem.name == top
        way = f"; wanted {top}.py in this folder, or an installed package" if lacks else ""
        raise error.naming(f"{subject}: cannot import it ({{}}){{}}", name, problem, way) from None
    except Exception as problem:  # a stranger's module may raise anything while it is imported
        raise error.naming(
            f"{subject}: importing it raised {{}}: {{}}", name, type(problem).__name__, problem
        ) from problem
    if not callable(factory):
        raise error.naming(
            f"{subject}: {{}} is not callable; wanted a function that returns {{}}", name, attribute, returns
        )
    return factory


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    # A console script does not look in the current folder, where people keep such a module. At the end of the path it
    # cannot shadow an installed package.
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
