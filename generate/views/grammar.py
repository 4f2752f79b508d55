"""The grammar of views: ``name:key=value,...`` on the command line, a table in a recipe, or a preset's name.

gaussian:std=.2,truncation=2                  a view and its numbers
hl-random-bigbigan                            a preset
mix:genrep-gaussian=.7,independent=.3         views or presets by name, with their weights
sdedit:strength=.3-.7                         what a pair draws from a range
unclip:noise_level=auto,foreground=FILE       what a file tells of an image
hierarchical:over=layers,0-3=genrep-gaussian  ranges of chunks or W layers, with views or presets by name
FILE.toml                                     a table, on top or [views]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from genrep.errors import Phrase, RecipeError, one_of, phrase, suggestion
from genrep.files import user_path
from genrep.untrusted import parse_toml, read_bounded, shown

from .base import View, check_range
from .composed import OVER, HierarchicalView, MixView, Part, WeightedView
from .edits import PromptsView, SdeditView, UnclipView
from .learned import LearnedView, NavigatorView, SteeredView
from .random import AngularView, GaussianView, IndependentView, NoView, UniformView


def _gaussian(std: float, truncation: float | None = 2.0) -> dict[str, Any]:
    """N^t(0, std); None: not truncated."""
    return {"name": "gaussian", "std": std, "truncation": truncation}


# The papers' views by name; a recipe holds each in full.
PRESETS: dict[str, dict[str, Any]] = {
    # GenRep: BigBiGAN's best deviation, BigGAN-deep's, and what its scripts do to StyleGAN2's cars and call angular.
    "genrep-gaussian": _gaussian(0.2),
    "genrep-gaussian-conditional": _gaussian(1.0),
    "genrep-gaussian-car": _gaussian(0.25, None),
    "genrep-angular": {"name": "angular", "std": 1.0, "law": "sum"},
    # HL, hierarchical latents: the numbers of its paper; its released configuration has others.
    "hl-random-bigbigan": {
        "name": "hierarchical",
        "over": "chunks",
        "parts": [{"chunks": "0", "view": None}, {"chunks": "1-5", "view": _gaussian(1.0)}],
    },
    "hl-random-bigbigan-baseline": _gaussian(0.05),
    "hl-random-stylegan2-car": {
        "name": "hierarchical",
        "over": "layers",
        "parts": [
            {"layers": "0-3", "view": _gaussian(0.3, 1.0)},
            {"layers": "4-7", "view": None},
            {"layers": "8-11", "view": _gaussian(0.8, 1.0)},
            {"layers": "12-15", "view": _gaussian(0.8, 1.0)},
        ],
    },
    "hl-random-stylegan2-car-baseline": _gaussian(0.15, 0.9),
}


VIEWS: dict[str, type[View]] = {
    view.name: view
    for view in (
        NoView,
        GaussianView,
        UniformView,
        AngularView,
        IndependentView,
        PromptsView,
        SdeditView,
        UnclipView,
        SteeredView,
        NavigatorView,
        HierarchicalView,
        MixView,
    )
}
NAMES = tuple(VIEWS)
MAX_BYTES = 1 << 20  # of a TOML file
MAX_DEPTH = 4  # of views in views


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a table comes from, for its errors and its files."""

    where: str | Phrase
    folder: Path | None  # the folder that relative paths start from
    paths: Mapping[str, Path]  # of learned parameters, by digest
    strangers: bool  # it names no file of this machine
    depth: int = 0


def parse_view(text: str) -> View:
    """Read a view from the command line.

    Raises:
        RecipeError: an unknown name or key, or a value of the wrong kind.
    """
    where = phrase("{views} {!r}", text)
    if text.endswith(".toml"):
        return _from_toml(user_path(text), where)
    return view_from_json(_table(text, where), where=where)


def view_from_json(
    value: Any,
    where: str | Phrase = "views",
    *,
    folder: Path | None = None,
    paths: Mapping[str, Path] | None = None,
    strangers: bool = False,
) -> View:
    """Build a view from a recipe's table or a string; the reverse of ``View.to_json``.

    ``folder`` is where relative paths begin; ``paths`` says where the files of learned parameters lie, by digest, for
    tables that name the digest alone, as a manifest does. ``strangers``: of a table from elsewhere, which may name nothing
    but the digest: a path in it is refused, not opened.

    Raises:
        RecipeError: as ``parse_view``.
    """
    return _view(value, _Place(where=where, folder=folder, paths=paths or {}, strangers=strangers))


def _table(text: str, where: str | Phrase) -> dict[str, Any]:
    """The table that a short string stands for; numbers are parsed, everything else stays text."""
    name, _, rest = text.partition(":")
    if not rest and name in PRESETS:
        return PRESETS[name]
    values: dict[str, str] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if not equals or not key or key in values:
            raise RecipeError.naming("{}: {!r} is not one key=value (or repeats a key)", where, item)
        values[key] = value
    kind = _kind(name, where)
    if kind is MixView:
        return {
            "name": name,
            "parts": [{"view": key, "weight": _read_number(key, values[key], where)} for key in values],
        }
    if kind is HierarchicalView:
        over = values.pop("over", "chunks")
        return {"name": name, "over": over, "parts": [{over: key, "view": values[key]} for key in values]}
    numbers = {field.name for field in fields(kind) if not isinstance(field.default, str)}
    read = {key: _read_number(key, item, where) if key in numbers else item for key, item in values.items()}
    return {"name": name, **read}


def _from_toml(path: Path, where: str | Phrase) -> View:
    try:
        data = read_bounded(path, MAX_BYTES, RecipeError, follow=True)
    except RecipeError as error:
        raise RecipeError.naming("{}: {}", where, str(error).removeprefix(f"{path}: ")) from None
    table = parse_toml(data, where, RecipeError)
    return view_from_json(table.get("views", table), where, folder=path.parent)


def _kind(name: str, where: str | Phrase) -> type[View]:
    kind = VIEWS.get(name)
    if kind is None:
        close = suggestion(name, (*NAMES, *PRESETS))
        known = f"known: {', '.join(NAMES)}; presets: {', '.join(PRESETS)}{close}"
        raise RecipeError.naming("{}: unknown view {!r}; {}", where, name, known)
    return kind


def _view(value: Any, place: _Place) -> View:
    if place.depth > MAX_DEPTH:
        raise RecipeError.naming("{}: views nested more than {} deep", place.where, MAX_DEPTH)
    if isinstance(value, str):
        value = _table(value, place.where)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise RecipeError.naming("{}: wanted a table with a name", place.where)
    if len(value) == 1 and value["name"] in PRESETS:
        value = PRESETS[value["name"]]
    kind = _kind(value["name"], place.where)
    values = {key: item for key, item in value.items() if key != "name"}
    if kind is MixView:
        return _mix(values, place)
    if kind is HierarchicalView:
        return _hierarchical(values, place)
    return _plain(kind, values, place)


def _plain(kind: type[View], values: dict[str, Any], place: _Place) -> View:
    """A view whose parameters are numbers and texts, as its fields' defaults are; null stands for infinity."""
    defaults = {field.name: field.default for field in fields(kind)}
    _check_keys(kind.name, values, set(defaults), place.where)
    converted: dict[str, Any] = {}
    for key, item in values.items():
        default = defaults[key]
        if isinstance(default, str):
            if not isinstance(item, str):
                raise RecipeError.naming("{}: {}={!r} is not text", place.where, key, item)
            converted[key] = item
        else:
            number = _number(key, math.inf if item is None else item, place.where)
            if isinstance(default, int) and not number.is_integer():
                raise RecipeError.naming("{}: {}={!r} is not a whole number", place.where, key, item)
            converted[key] = int(number) if isinstance(default, int) else number
    view = kind(**converted)
    if isinstance(view, LearnedView) and view.learned:
        _find_file(view.file_key, converted, place)
        return kind(**converted)
    return view


def _find_file(key: str, values: dict[str, Any], place: _Place) -> None:
    """Find the file of learned parameters: relative to the recipe, or by its digest."""
    path = values.get(key, "")
    if path and place.strangers:
        raise RecipeError.naming(
            "{}: {}={} names a file of this machine; wanted its digest alone", place.where, key, shown(path)
        )
    if path:
        values[key] = str((place.folder or Path()) / user_path(path))
    elif values.get("digest") in place.paths:
        values[key] = str(place.paths[values["digest"]])
    elif not values.get("digest"):
        raise RecipeError.naming("{}: needs {}=FILE", place.where, key)


def _mix(values: dict[str, Any], place: _Place) -> View:
    _check_keys("mix", values, {"parts"}, place.where)
    choices = []
    for number, part in enumerate(_parts(values, place)):
        inner = replace(place, where=phrase("{}: part {}", place.where, number), depth=place.depth + 1)
        _check_keys("mix's part", part, {"weight", "view"}, inner.where)
        weight = _number("weight", part.get("weight"), inner.where)
        choices.append(WeightedView(weight=weight, view=_of_latents(_view(part.get("view"), inner), inner)))
    return MixView(parts=tuple(choices))


def _hierarchical(values: dict[str, Any], place: _Place) -> View:
    _check_keys("hierarchical", values, {"over", "parts"}, place.where)
    over = values.get("over")
    if over not in OVER:
        raise RecipeError.naming("{}: over={!r}, wanted one of {}", place.where, over, one_of(over, OVER))
    parts = []
    for number, part in enumerate(_parts(values, place)):
        inner = replace(place, where=phrase("{}: part {}", place.where, number), depth=place.depth + 1)
        _check_keys("hierarchical's part", part, {over, "view"}, inner.where)
        first, last = check_range(str(part.get(over)), None, phrase("{}: {}", inner.where, over), over)
        view = None if part.get("view") is None else _of_latents(_view(part["view"], inner), inner)
        parts.append(Part(first=first, last=last, view=None if isinstance(view, NoView) else view))
    return HierarchicalView(over=over, parts=tuple(sorted(parts, key=lambda part: part.first)))


def _of_latents(view: View, place: _Place) -> View:
    """The view, if it moves latents and nothing else. Raises RecipeError."""
    if view.edits or view.changes_prompt:
        raise RecipeError.naming(
            "{}: {} is no part of another view, for it does not move latents", place.where, view.name
        )
    return view


def _parts(values: dict[str, Any], place: _Place) -> list[dict[str, Any]]:
    parts = values.get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise RecipeError.naming("{}: parts: wanted a list of tables", place.where)
    return parts


def _check_keys(name: str, values: dict[str, Any], known: set[str], where: str | Phrase) -> None:
    for key in values:
        if key not in known:
            raise RecipeError.naming(
                "{}: {} has no parameter {!r}; known: {}", where, name, key, one_of(key, sorted(known)) or "none"
            )


def _number(key: str, item: Any, where: str | Phrase) -> float:
    """Raises RecipeError for anything but a number; NaN is refused too."""
    try:
        number = float(item) if isinstance(item, (int, float)) and not isinstance(item, bool) else math.nan
    except OverflowError:
        number = math.nan
    if math.isnan(number):
        raise RecipeError.naming("{}: {}={} is not a number", where, key, repr(item)[:40])
    return number


def _read_number(key: str, text: str, where: str | Phrase) -> float:
    """Raises RecipeError for text that is not a number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise RecipeError.naming("{}: {}={!r} is not a number", where, key, text)
    return number
