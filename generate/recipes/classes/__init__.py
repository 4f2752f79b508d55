"""Which of a generator's classes a dataset holds: ``--classes all | 0-99 | 3,7,10-12 | imagenet100 | FILE``.

A file (or preset of this folder) has one class per line: its number, then anything; tab-separated, the last column is its
name. Lines that are empty or begin with ``#`` do not count.
"""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import RecipeError
from genrep.untrusted import MAX_TEXT, read_bounded

RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@dataclass(frozen=True, kw_only=True)
class ClassSelection:
    """Classes in the order in which pairs take them, and the names that the selection itself brings."""

    numbers: tuple[int, ...]
    names: dict[int, str]


def known_presets() -> list[str]:
    """Class lists that ship with the package."""
    files = importlib.resources.files(__name__)
    return sorted(entry.name.removesuffix(".txt") for entry in files.iterdir() if entry.name.endswith(".txt"))


def select_classes(text: str, count: int) -> ClassSelection:
    """Resolve ``--classes`` for a generator of ``count`` classes.

    Raises:
        RecipeError: neither of the forms, a class twice, or one that the generator does not have.
    """
    if count == 0:
        if text != "all":
            raise RecipeError(f"--classes {text}: the generator has no classes")
        return ClassSelection(numbers=(), names={})
    if text == "all":
        return ClassSelection(numbers=tuple(range(count)), names={})
    if all(RANGE.fullmatch(item) for item in text.split(",")):
        selection = ClassSelection(numbers=tuple(_numbers(text, count)), names={})
    elif text in known_presets():
        selection = _parse(importlib.resources.files(__name__).joinpath(f"{text}.txt").read_text(), text)
    elif Path(text).is_file():
        try:
            selection = _parse(read_bounded(Path(text), MAX_TEXT, RecipeError, follow=True).decode(), text)
        except UnicodeDecodeError:
            raise RecipeError(f"--classes {text}: not a text file") from None
    else:
        raise RecipeError(
            f"--classes {text!r}: wanted all, numbers like 0-99 or 3,7, {', '.join(known_presets())}, or an existing file"
        )
    return _checked(selection, text, count)


def _numbers(text: str, count: int) -> list[int]:
    numbers: list[int] = []
    for item in text.split(","):
        match = RANGE.fullmatch(item)
        assert match is not None
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise RecipeError(f"--classes {text}: {item} runs backwards")
        if last >= count:  # before a range of a billion is made
            raise RecipeError(f"--classes {text}: class {last}, the generator has 0 to {count - 1}")
        numbers += range(first, last + 1)
    return numbers


def _parse(content: str, where: str) -> ClassSelection:
    numbers: list[int] = []
    names: dict[int, str] = {}
    for k, line in enumerate(content.splitlines(), 1):
        columns = line.strip().split("\t")
        if not columns[0] or columns[0].startswith("#"):
            continue
        number = columns[0].split()[0]
        if not RANGE.fullmatch(number) or "-" in number:
            raise RecipeError(f"--classes {where}: line {k} begins with {number[:40]!r}, wanted a class number")
        numbers.append(int(number))
        if len(columns) > 1:
            names[int(number)] = columns[-1].replace("_", " ")
    if not numbers:
        raise RecipeError(f"--classes {where}: holds no class")
    return ClassSelection(numbers=tuple(numbers), names=names)


def _checked(selection: ClassSelection, where: str, count: int) -> ClassSelection:
    seen: set[int] = set()
    for number in selection.numbers:
        if number >= count:
            raise RecipeError(f"--classes {where}: class {number}, the generator has 0 to {count - 1}")
        if number in seen:
            raise RecipeError(f"--classes {where}: class {number} stands twice")
        seen.add(number)
    return selection
