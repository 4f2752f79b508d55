"""The declarations: tables, scales, methods and fits, read from TOML and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any

from genrep.errors import ConfigError, one_of

SCALES = ("tiny", "cpu", "small", "full")
Settings = dict[str, Any]
DATA = ("generated", "real", "mixed", "none", "walk", "given")
ROW_SCALES = ("full", "reduced")
REAL_SHAPES = (
    "whole",
    "generated",
)  # in their own shapes, or cut from the middle and shrunk to that of the generator's images
PARENT = "like"  # of fits and baselines: the one whose settings stand under its own


@dataclass(frozen=True, kw_only=True)
class RowSpec:
    """A row of a table, as it is at one scale."""

    id: str
    name: str
    data: str = (
        "generated"  # one of DATA; mixed: real images, some replaced; none: an untrained encoder; walk: a latent view
    )
    published: tuple[str, ...] | None = (
        None  # keys in report/published; None: the table's with this id, if there is one
    )
    generator: str = ""
    classes: str | None = None
    real: str = ""  # a named set, or a folder under the root
    real_shape: str = "whole"  # of stored real images, one of REAL_SHAPES; full scale only
    num_pairs: int = 0
    times: int = 1  # as many pairs
    num_positives: int = 1
    views: str | Settings = "none"  # {NAME} is the folder of a fit
    filter: str | None = None  # keep=PART
    method: str = ""
    train: Settings = field(default_factory=dict)  # options of genrep-train over the method's; full scale only
    positive: str | None = None
    pixel_views: str | None = None  # "" in a table: the method's own, where the defaults say otherwise
    limit: float | None = None  # part of the samples
    mix: float | None = None
    length: float | None = None  # part of the scale's epochs
    same_updates: bool = False  # as many as the scale's number of pairs has
    online: bool = False  # full scale only
    steps_per_epoch: int | None = None  # with online
    walk: str | None = None  # the fit whose latent view is measured
    encoder: str | None = None  # with data "given": the name under which the caller gives an encoder
    evaluations: tuple[str, ...] = ()  # "NAME" or "NAME:DATASET"; full scale only
    only: str | None = None  # one of ROW_SCALES


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table."""

    id: str
    title: str
    says: tuple[str, ...] = ()
    rows: tuple[RowSpec, ...] = ()
    task: str | None = None  # instead of rows: one command (tasks.VERBS)
    settings: Settings = field(default_factory=dict)  # of that command

    @property
    def role(self) -> str:
        """Which generator of a scale's stand-ins the rows need."""
        return "conditional" if any(is_conditional(row.generator) for row in self.rows) else "unconditional"


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec:
    """How a scale measures encoders."""

    command: str
    options: Settings
    real: Settings = field(default_factory=dict)  # options for encoders of real images, over the others
    seeds: tuple[int, ...] | None = None  # of one encoder; None: one, its training's


@dataclass(frozen=True, kw_only=True)
class ScaleSpec:
    """A scale."""

    name: str
    says: str
    seeds: tuple[int, ...]
    evaluations: Mapping[str, EvaluationSpec]
    random: Settings  # arch and stem of untrained encoders
    objectives: Mapping[str, Settings] = field(default_factory=dict)
    num_pairs: int = 0
    epochs: int = 0
    batch_size: int = 0
    delta_anchors: int = 1_000_000
    real_size: int | None = None
    subset: Mapping[str, int] | None = None
    stand_ins: tuple[Settings, ...] = ()

    @property
    def reduced(self) -> bool:
        """Whether it puts its own in the places of the papers' settings."""
        return self.name != "full"


def table_names() -> tuple[str, ...]:
    """Every table, in the order of the papers."""
    names = [
        entry.name.removesuffix(".toml") for entry in (_here() / "tables").iterdir() if entry.name.endswith(".toml")
    ]
    order = ("genrep", "cop-gen", "hl")
    return tuple(
        sorted(names, key=lambda name: (next(i for i, paper in enumerate(order) if name.startswith(paper)), name))
    )


def read_table(name: str, scale: str) -> TableSpec:
    """A table as it is at a scale.

    Raises:
        ValueError: the name is unknown, or its file has an unknown entry.
    """
    if name not in table_names():
        raise ConfigError.naming("{table} {!r}: wanted one of {}", name, one_of(name, table_names()))
    value = _read(f"tables/{name}.toml")
    where = f"tables/{name}.toml"
    known = {"title", "says", "published", "baselines", "defaults", "rows", "task", *SCALES}
    _check_keys(value, known, where)
    common: Settings = {"id": name, "title": value["title"], "says": _says(value, scale)}
    if "task" in value:
        return TableSpec(**common, task=value["task"], settings=value.get(scale, {}))
    reduced = scale != "full"
    entries = value["rows"] + [_baseline(baseline, where) for baseline in value.get("baselines", ())]
    rows = [_row(value.get("defaults", {}), entry, reduced, where) for entry in entries]
    kept = [row for row in rows if row.only in (None, "reduced" if reduced else "full")]
    return TableSpec(**common, rows=tuple(_with_published(row, value.get("published")) for row in kept))


def _says(value: Settings, scale: str) -> tuple[str, ...]:
    """A table's sentences at a scale: texts, or {only = ..., text = ...}, where ``only`` is as in rows."""
    where = "full" if scale == "full" else "reduced"
    every = [{"text": one} if isinstance(one, str) else one for one in value.get("says", ())]
    return tuple(one["text"] for one in every if one.get("only", where) == where)


# Rows that any table may ask for, by name or as {like = NAME, ...}. "real" is the table's own method on the real images. What a
# table's other rows say of length and number of samples is not theirs.
_REAL: Settings = {
    **{"data": "real", "published": [], "positive": "anchor", "reduced": {"positive": "anchor"}},
    **{"train": {}, "same_updates": False, "times": 1},
}
BASELINES: dict[str, Settings] = {
    "random": {"id": "random", "name": "random initialisation", "data": "none", "published": []},
    "real": {**_REAL, "id": "baseline-real", "name": "real images, the same training"},
    "supervised": {
        **{**_REAL, "id": "supervised", "name": "real images and labels, classifier"},
        **{"method": "genrep-classifier", "pixel_views": "simclr", "real_shape": "whole"},
    },
}


def _baseline(entry: str | Settings, where: str) -> Settings:
    own = {} if isinstance(entry, str) else {key: value for key, value in entry.items() if key != PARENT}
    name = entry if isinstance(entry, str) else entry.get(PARENT)
    if name not in BASELINES:
        raise ValueError(f"{where}: baseline {name!r}: wanted one of {one_of(name, BASELINES)}")
    return {**BASELINES[name], **own}


def read_scale(name: str) -> ScaleSpec:
    """Read a scale. Raises ValueError for an unknown name."""
    if name not in SCALES:
        raise ConfigError.naming("{scale} {!r}: wanted one of {}", name, one_of(name, SCALES))
    value = dict(_read("scales.toml")[name])
    value["seeds"], value["stand_ins"] = tuple(value["seeds"]), tuple(value.get("stand_ins", ()))
    _check_keys(value, {one.name for one in fields(ScaleSpec)}, f"scales.toml: {name}")
    value["evaluations"] = {key: EvaluationSpec(**how) for key, how in value["evaluations"].items()}
    return ScaleSpec(name=name, **value)


def is_conditional(generator: str) -> bool:
    """Whether one of the papers' generators needs a class-conditional one in its place."""
    return generator in _read("scales.toml")["conditional"]


def known_encoders(table: str, scale: str) -> tuple[str, ...]:
    """Names under which a table at a scale takes encoders. Raises ValueError as ``read_table``."""
    return tuple(dict.fromkeys(row.encoder for row in read_table(table, scale).rows if row.encoder))


def usable_generators(table: str, scale: str) -> tuple[str, ...]:
    """The generators whose weights a table at a scale would use. Raises ValueError as ``read_table``."""
    spec, how = read_table(table, scale), read_scale(scale)
    if not how.reduced:
        return tuple(dict.fromkeys(row.generator for row in spec.rows if row.generator))
    entries = [one for one in how.stand_ins if spec.role in one] if spec.rows else []
    return tuple(dict.fromkeys(one[key] for one in entries for key in ("unconditional", "conditional") if key in one))


def image_shape(generator: str) -> tuple[int, int]:
    """Height and width of a generator's images, as they are stored. Raises ValueError for one that is not the papers'."""
    shapes = _read("scales.toml")["shapes"]
    if generator not in shapes:
        raise ValueError(f"generator {generator!r}: wanted one of {', '.join(shapes)}")
    height, width = shapes[generator]
    return height, width


def read_method(name: str) -> Settings:
    """``objective`` and ``full`` of a method."""
    methods = _read("methods.toml")
    if name not in methods:
        raise ValueError(f"method {name!r}: wanted one of {one_of(name, methods)}")
    return dict(methods[name])


def read_fit(name: str, scale: str) -> tuple[str, Settings]:
    """Command and options of a fit at a scale."""
    fits = _read("fits.toml")
    if name not in fits:
        raise ValueError(f"fit {name!r}: wanted one of {one_of(name, fits)}")
    own = fits[name]
    family = [fits[own[PARENT]], own] if PARENT in own else [own]
    options: Settings = {}
    for layer in ("full",) if scale == "full" else ("reduced", scale):
        for one in family:  # a fit is its parent, but for what it says itself
            options |= one.get(layer, {})
    return family[0]["command"], options


def _row(defaults: Settings, entry: Settings, reduced: bool, where: str) -> RowSpec:
    """A row over its table's defaults; below full scale each with its own ``reduced`` on top."""
    merged: Settings = {}
    for one in (defaults, entry):
        merged |= {**one, **(one.get("reduced", {}) if reduced else {})}
    merged.pop("reduced", None)
    _check_keys(merged, {one.name for one in fields(RowSpec)}, f"{where}: row {merged.get('id')}")
    merged["pixel_views"] = merged.get("pixel_views") or None
    for name in ("published", "evaluations"):
        if merged.get(name) is not None:
            merged[name] = tuple(merged[name])
    row = RowSpec(**merged)
    for name, known in (("data", DATA), ("only", (None, *ROW_SCALES)), ("real_shape", REAL_SHAPES)):
        if getattr(row, name) not in known:
            raise ValueError(f"{where}: row {row.id}: {name} {getattr(row, name)!r} is unknown")
    if row.data == "mixed" and row.real_shape != "generated":
        raise ValueError(
            f'{where}: row {row.id}: generated images among real ones of other shapes; wanted real_shape = "generated"'
        )
    return row


def _with_published(row: RowSpec, table: str | None) -> RowSpec:
    if row.published is not None:
        return row
    from ..report.papers import find_row

    key = f"{table}/{row.id}"
    return RowSpec(**{**vars(row), "published": (key,) if table and find_row(key) else ()})


def _check_keys(value: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(value.keys() - known)
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known: {one_of(unknown[0], sorted(known))}")


def _here() -> Any:
    return files(__package__)


@cache
def _read(name: str) -> Settings:
    return tomllib.loads((_here() / name).read_text(encoding="utf-8"))
