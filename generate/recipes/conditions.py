"""What a generator gets besides the latent: nothing, a class or a row of instance features, balanced over the pairs.

Which classes: ``--classes all | 0-99 | 3,7,10-12 | imagenet100 | FILE``. A file has one class per line: its number, then
anything; tab-separated, the last column is its name. Lines that are empty or begin with ``#`` do not count. Presets are such
files of ``genrep.images``, which sorts real images by the same lists.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError
from genrep.untrusted import MAX_TEXT, read_bounded

from ..generators.base import Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Pair i is made with choice ``i mod n`` of ``n``: every class (or row) equally often, to within one."""

    choices: NDArray[np.int64]  # (n,), what ``synthesize`` gets as y; n = 0: unconditional
    labels: NDArray[np.int64]  # (n,), what is stored as the label
    by_row: bool = False  # the choices are rows of instance features

    def y(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """What the generator gets with these pairs. Shape: ``(B,) -> (B,)``; None if it is unconditional."""
        return self.choices[indices % len(self.choices)] if len(self.choices) else None

    def label(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the pairs, -1 = none. Shape: ``(B,) -> (B,)``."""
        if not len(self.choices):
            return np.full(len(indices), -1, dtype=np.int64)
        return self.labels[indices % len(self.choices)]


def class_count(generator: Generator) -> int:
    """Number of classes that labels can name; for a generator conditioned on instances, the classes of its rows."""
    instances: Any = getattr(generator, "instances", None)
    if instances is None:
        return generator.num_classes
    return 0 if instances.labels is None else int(instances.labels.max()) + 1


def make_conditions(classes: tuple[int, ...], generator: Generator) -> Conditions:
    """The conditions of a plan with these classes.

    Raises:
        RecipeError: no row of the instance features is of these classes, or the generator needs features and has none.
    """
    instances: Any = getattr(generator, "instances", None)
    if instances is None:
        if getattr(generator, "needs_instances", False):
            raise RecipeError.naming(
                "{features}: this generator is conditioned on instance features; give a file of them"
            )
        numbers = np.asarray(classes, dtype=np.int64)
        return Conditions(choices=numbers, labels=numbers)
    rows = np.arange(len(instances.features), dtype=np.int64)
    if instances.labels is None:
        return Conditions(choices=rows, labels=np.full(len(rows), -1, dtype=np.int64), by_row=True)
    labels = instances.labels.cpu().numpy().astype(np.int64)
    rows = rows[np.isin(labels, np.asarray(classes, dtype=np.int64))]
    if not len(rows):
        raise RecipeError.naming("{classes}: no row of the instance features is of these classes")
    return Conditions(choices=rows, labels=labels[rows], by_row=True)


PRESETS = "genrep.images"  # the package whose text files they are
RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@dataclass(frozen=True, kw_only=True)
class ClassSelection:
    """Classes in the order in which pairs take them, and the names that the selection itself brings."""

    numbers: tuple[int, ...]
    names: dict[int, str]


def known_presets() -> list[str]:
    """Class lists that ship with the package."""
    files = importlib.resources.files(PRESETS)
    return sorted(entry.name.removesuffix(".txt") for entry in files.iterdir() if entry.name.endswith(".txt"))


def select_classes(text: str, count: int) -> ClassSelection:
    """Resolve ``--classes`` for a generator of ``count`` classes.

    Raises:
        RecipeError: neither of the forms, a class twice, or one that the generator does not have.
    """
    if count == 0:
        if text != "all":
            raise RecipeError.naming("{classes} {}: the generator has no classes", text)
        return ClassSelection(numbers=(), names={})
    if text == "all":
        return ClassSelection(numbers=tuple(range(count)), names={})
    selection = _read(text)
    if isinstance(selection, ClassSelection):
        for number in selection.numbers:
            _require(number, text, count)
        return selection
    numbers: list[int] = []
    for first, last in selection:
        _require(last, text, count)  # before a range of a billion is made
        numbers += range(first, last + 1)
    _refuse_twice(numbers, text)
    return ClassSelection(numbers=tuple(numbers), names={})


def check_classes(text: str) -> None:
    """Check ``--classes`` as far as possible without the generator: its form, or the file that it names.

    Raises:
        RecipeError: as ``select_classes``.
    """
    if text != "all":
        _read(text)


def _read(text: str) -> ClassSelection | list[tuple[int, int]]:
    """The classes of a preset or a file; or the ranges that are written out, as first and last."""
    if all(RANGE.fullmatch(item) for item in text.split(",")):
        return [_range(item, text) for item in text.split(",")]
    if text in known_presets():
        selection = _parse(importlib.resources.files(PRESETS).joinpath(f"{text}.txt").read_text(), text)
    elif Path(text).is_file():
        try:
            selection = _parse(read_bounded(Path(text), MAX_TEXT, RecipeError, follow=True).decode(), text)
        except UnicodeDecodeError:
            raise RecipeError.naming("{classes} {}: not a text file", text) from None
    else:
        raise RecipeError.naming(
            "{classes} {!r}: wanted all, numbers like 0-99 or 3,7, {}, or an existing file",
            text,
            ", ".join(known_presets()),
        )
    _refuse_twice(selection.numbers, text)
    return selection


def _range(item: str, text: str) -> tuple[int, int]:
    match = RANGE.fullmatch(item)
    assert match is not None
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise RecipeError.naming("{classes} {}: {} runs backwards", text, item)
    return first, last


def _parse(content: str, where: str) -> ClassSelection:
    numbers: list[int] = []
    names: dict[int, str] = {}
    for k, line in enumerate(content.splitlines(), 1):
        columns = line.strip().split("\t")
        if not columns[0] or columns[0].startswith("#"):
            continue
        number = columns[0].split()[0]
        if not RANGE.fullmatch(number) or "-" in number:
            raise RecipeError.naming(
                "{classes} {}: line {} begins with {!r}, wanted a class number", where, k, number[:40]
            )
        numbers.append(int(number))
        if len(columns) > 1:
            names[int(number)] = columns[-1].replace("_", " ")
    if not numbers:
        raise RecipeError.naming("{classes} {}: contains no classes", where)
    return ClassSelection(numbers=tuple(numbers), names=names)


def _require(number: int, text: str, count: int) -> None:
    if number >= count:
        raise RecipeError.naming("{classes} {}: class {}, the generator has 0 to {}", text, number, count - 1)


def _refuse_twice(numbers: Iterable[int], text: str) -> None:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise RecipeError.naming("{classes} {}: class {} appears twice", text, number)
        seen.add(number)
