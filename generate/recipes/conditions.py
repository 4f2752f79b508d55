"""What a generator gets besides the latent: nothing, a class, a row of instance features or a prompt, balanced over the pairs.

Which classes: ``--classes all | 0-99 | 3,7,10-12 | imagenet100 | FILE``. A file has one class per line: its number, then
anything; tab-separated, the last column is its name. Lines that are empty or begin with ``#`` do not count. Presets are such
files of ``genrep.images``, which sorts real images by the same lists.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genrep.errors import RecipeError
from genrep.untrusted import MAX_TEXT, read_bounded, shown

from ..generators.base import Generator
from ..views import View
from ..views.base import Draw
from ..views.edits import PromptsView

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PromptTable(Protocol):
    """Prompts in order, of which some may form groups."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, by first appearance; empty: the prompts are not grouped."""
        ...

    @property
    def group_numbers(self) -> NDArray[np.int64]:
        """Number of each prompt's group, -1 = none. Shape: ``(N,)``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Pair i is made with choice ``i mod n`` of ``n``: every class (row, prompt) equally often, to within one."""

    choices: NDArray[np.int64]  # (n,), what ``synthesize`` gets as y; n = 0: unconditional
    labels: NDArray[np.int64]  # (n,), what is stored as the label; real anchors have them without choices as well
    by_row: bool = False  # the choices are rows of instance features
    prompts: PromptTable | None = None  # the choices are rows of these

    def y(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """What the generator gets with these pairs. Shape: ``(B,) -> (B,)``; None if it is unconditional."""
        return self.choices[indices % len(self.choices)] if len(self.choices) else None

    def label(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the pairs, -1 = none. Shape: ``(B,) -> (B,)``."""
        if not len(self.labels):
            return np.full(len(indices), -1, dtype=np.int64)
        return self.labels[indices % len(self.labels)]

    def given(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | tuple[str, ...]:
        """What the generator takes for these ``y``: the texts of prompts, or themselves."""
        return rows if self.prompts is None else tuple(self.prompts[row] for row in rows.tolist())

    def other_prompts(self, rows: NDArray[np.int64], view: View, draw: Draw) -> NDArray[np.int64]:
        """Prompts of positives under a view that changes them. Shape: ``(B,) -> (B,)``."""
        assert isinstance(view, PromptsView)
        groups = self._groups
        numbers = groups.numbers[rows]
        places = view.other_places(groups.places[rows], groups.sizes[numbers], draw)
        return groups.order[groups.starts[numbers] + places]

    def require_groups(self) -> None:
        """Refuse prompts of which one stands alone. Raises RecipeError."""
        groups = None if self.prompts is None or not self.prompts.groups else self._groups
        if groups is None or bool((groups.numbers < 0).any()):
            raise RecipeError.naming("{views} prompts: needs prompts in groups; lines of {prompts} are in none")
        if bool((groups.sizes < 2).any()):
            alone = self.prompts.groups[int(groups.sizes.argmin())] if self.prompts else ""
            raise RecipeError.naming("{views} prompts: group {} of {prompts} has one prompt, wanted two", shown(alone))

    @cached_property
    def _groups(self) -> _Groups:
        assert self.prompts is not None
        numbers = np.asarray(self.prompts.group_numbers, dtype=np.int64)
        order = np.argsort(numbers, kind="stable")
        sizes = np.bincount(numbers[numbers >= 0], minlength=len(self.prompts.groups))
        starts = np.cumsum(sizes) - sizes + int((numbers < 0).sum())
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        places -= np.where(numbers < 0, 0, starts[numbers])
        return _Groups(numbers=numbers, order=order, starts=starts, sizes=sizes, places=places)


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Rows of prompts by group."""

    numbers: NDArray[np.int64]  # (N,), group of each row
    order: NDArray[np.int64]  # (N,), rows sorted by group
    starts: NDArray[np.int64]  # (G,), of each group within the order
    sizes: NDArray[np.int64]  # (G,)
    places: NDArray[np.int64]  # (N,), of each row within its group


class AnchorTable(Protocol):
    """Real images that are anchors."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the images, -1 = none. Shape: ``(N,)``."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""
        ...

    @property
    def licence(self) -> str:
        """Of the images."""
        ...

    def __len__(self) -> int: ...

    def to_json(self) -> dict[str, Any]:
        """What a recipe says of them, besides the digest of their table."""
        ...

    def rows(self) -> Iterator[tuple[str, str]]:
        """Name and sha256 of each."""
        ...

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of some of them. Shape: ``(B,) -> (B, H, W, 3)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a build is given besides a generator: prompts, or images that are its anchors."""

    prompts: PromptTable | None = None
    anchors: AnchorTable | None = None


def prompt_conditions(prompts: PromptTable) -> Conditions:
    """Prompts in turn, with their groups as labels."""
    rows = np.arange(len(prompts), dtype=np.int64)
    return Conditions(choices=rows, labels=np.asarray(prompts.group_numbers, dtype=np.int64), prompts=prompts)


def anchor_conditions(anchors: AnchorTable, generator: Generator, prompts: PromptTable | None) -> Conditions:
    """Conditions of positives of real images, one choice for each image.

    A generator of classes gets the image's class. Prompts come in turn; where they have groups of the names of the images'
    classes, those of the image's class do.

    Raises:
        RecipeError: the images' classes are not the generator's, or a class has no prompts.
    """
    if prompts is not None:
        return Conditions(choices=_prompts_of(anchors, prompts), labels=anchors.labels, prompts=prompts)
    if not generator.num_classes:
        return Conditions(choices=np.zeros(0, dtype=np.int64), labels=anchors.labels)
    if len(anchors.classes) != generator.num_classes:
        raise RecipeError.naming(
            "{anchors}: images of {} classes; the generator makes {} classes, and a positive has its anchor's",
            len(anchors.classes),
            generator.num_classes,
        )
    return Conditions(choices=anchors.labels, labels=anchors.labels)


def _prompts_of(anchors: AnchorTable, prompts: PromptTable) -> NDArray[np.int64]:
    """Row of each anchor's prompt. Shape: ``(N,)``."""
    numbers = {name: number for number, name in enumerate(prompts.groups)}
    if not anchors.classes or not numbers.keys() & set(anchors.classes):
        return np.arange(len(anchors), dtype=np.int64) % len(prompts)
    if lacking := [name for name in anchors.classes if name not in numbers]:
        raise RecipeError.naming("{prompts}: no group has the name of the anchors' class {}", shown(lacking[0]))
    chosen = np.empty(len(anchors), dtype=np.int64)
    for label, name in enumerate(anchors.classes):
        inside = np.flatnonzero(anchors.labels == label)
        rows = np.flatnonzero(prompts.group_numbers == numbers[name])
        chosen[inside] = rows[np.arange(len(inside)) % len(rows)]
    return chosen


def class_count(generator: Generator) -> int:
    """Number of classes that labels can name; for a generator conditioned on instances, the classes of its rows."""
    instances: Any = getattr(generator, "instances", None)
    if instances is None:
        return generator.num_classes
    return 0 if instances.labels is None else int(instances.labels.max()) + 1


def make_conditions(classes: tuple[int, ...], generator: Generator, material: Material | None = None) -> Conditions:
    """The conditions of a plan with these classes.

    Raises:
        RecipeError: no row of the instance features is of these classes, the generator needs features or prompts and has
            none, or there are prompts and it takes none.
    """
    material = material or Material()
    takes_prompts = getattr(generator, "takes_prompts", False)
    if takes_prompts and material.prompts is None and not getattr(generator, "prompts_optional", False):
        raise RecipeError.naming("{prompts}: this generator takes prompts: give a file of them")
    if material.prompts is not None and not takes_prompts:
        raise RecipeError.naming("{prompts}: this generator takes none")
    if material.anchors is not None:
        return anchor_conditions(material.anchors, generator, material.prompts)
    if material.prompts is not None:
        return prompt_conditions(material.prompts)
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
