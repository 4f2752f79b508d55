"""The papers' numbers (published/*.toml), and whether a result was measured by the same protocol."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

FILES = ("genrep.toml", "cop_gen.toml", "hl.toml", "field.toml")
FACTS_FILE = "datasets.toml"


@dataclass(frozen=True, kw_only=True)
class PublishedProtocol:
    """How a published number was measured."""

    name: str
    kind: str  # ``name`` of our protocols of the same kind
    says: str
    match: Mapping[str, Any]  # fields of a result's protocol that must be equal; none: no result of ours is comparable
    rates: Mapping[
        str, float
    ]  # ``lr`` of encoders of "real" and of "generated" images, where it differs from row to row
    any_folder: bool  # the test set is a folder of any name; ``match`` says how many images it has


@dataclass(frozen=True, kw_only=True)
class Published:
    """One number of one cell of a paper's table."""

    key: str  # of its row: "genrep-table1/gauss"
    paper: str
    source: str  # the paper's authors and title
    table: str
    note: str
    row: str
    column: str
    dataset: str
    metric: str
    protocol: PublishedProtocol
    match: Mapping[str, Any]  # the protocol's, and what follows from dataset, column and row
    value: float
    std: float | None  # what stands behind its ±
    unit: str
    decimals: int  # that are printed
    recipe: str  # generator whose images trained the encoder; "real:NAME" for real ones, "stable-diffusion:CAPTIONS"
    views: str  # T_z, as --views takes it
    pixel_views: str  # "own": the authors', as their code has them
    objective: str
    filter: str
    sweep: str | None  # the setting that differs between the rows, and
    x: float | None  # its value

    @property
    def where(self) -> str:
        """For people.

        >>> find_row("genrep-table1/gauss")[0].where
        'GenRep, Table 1'
        """
        return f"{self.paper}, {self.table}" + (f" ({self.note})" if self.note else "")

    @property
    def what(self) -> str:
        """The objective and data that trained the encoder.

        >>> find_row("genrep-table5/real")[0].what
        'supcon, real imagenet100'
        """
        return f"{self.objective}, {self.recipe.replace(':', ' ')}"

    @property
    def text(self) -> str:
        """The value as printed.

        >>> find_row("hl-table3-cars/hl-random")[0].text
        '47.0 ± 0.3'
        """
        spread = "" if self.std is None else f" ± {self.std:.{self.decimals}f}"
        return f"{self.value:.{self.decimals}f}{spread}"

    def comparable(self, dataset: str, protocol: Mapping[str, Any]) -> bool:
        """Whether a result on ``dataset`` by ``protocol`` may stand beside it."""
        if not self.match or not (self.protocol.any_folder or dataset == self.dataset):
            return False
        return all(protocol.get(name) == value for name, value in self.match.items())


@cache
def published() -> tuple[Published, ...]:
    """Every number, in the papers' order."""
    return tuple(number for name in FILES for number in _read(name))


def find_row(key: str) -> tuple[Published, ...]:
    """The numbers of a row; none if there is no such row."""
    return tuple(number for number in published() if number.key == key)


def check_keys(keys: Iterable[str]) -> None:
    """Raises ValueError for a key of no published row; lists those of its table, or the tables."""
    for key in keys:
        if not find_row(key):
            known = dict.fromkeys(number.key for number in published())
            table = key.partition("/")[0]
            near = [name for name in known if name.startswith(f"{table}/")]
            raise ValueError(
                f"published row {key!r}: wanted one of "
                + ", ".join(near or dict.fromkeys(name.partition("/")[0] + "/…" for name in known))
            )


@cache
def dataset_facts(dataset: str) -> Mapping[str, Any]:
    """Fields that a protocol has on the whole of a paper's dataset; none for other names."""
    facts: Mapping[str, Any] = _toml(FACTS_FILE).get(dataset, {})
    return facts


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "published" / name).read_text(encoding="utf-8"))


def _read(name: str) -> list[Published]:
    content = _toml(name)
    every = {
        key: one for file in FILES for key, one in _toml(file)["protocols"].items()
    }  # HL measures as COP-Gen, in part
    protocols = {key: _protocol(key, every) for key in every}
    return [
        _number(content, table, row, column, value, std, protocols[column["protocol"]])
        for table in content["tables"]
        for row in table["rows"]
        for column, value, std in zip(
            table["columns"], row["values"], row.get("stds", [None] * len(row["values"])), strict=True
        )
    ]


def _protocol(name: str, every: dict[str, Any]) -> PublishedProtocol:
    own = every[name]
    match = {**every.get(own.get("like"), {}).get("match", {}), **own.get("match", {})}
    return PublishedProtocol(
        name=name,
        kind=own["kind"],
        says=own["says"],
        match={**match, **dict.fromkeys(own.get("null", ())), "name": own["kind"]} if match else {},
        rates=own.get("rates", {}),
        any_folder=own.get("any_folder", False),
    )


def _match(protocol: PublishedProtocol, column: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Everything that a result's protocol must agree in; empty: nothing is comparable."""
    if not protocol.match:
        return {}
    real = recipe.startswith("real:") and "+" not in recipe
    rate = {"lr": protocol.rates["real" if real else "generated"]} if protocol.rates else {}
    return {**dataset_facts(column["dataset"]), **protocol.match, **column.get("match", {}), **rate}


def _number(
    paper: dict[str, Any],
    table: dict[str, Any],
    row: dict[str, Any],
    column: dict[str, Any],
    value: float,
    std: float | None,
    protocol: PublishedProtocol,
) -> Published:
    recipe = {**table, **row}
    return Published(
        key=f"{table['id']}/{row['id']}",
        paper=recipe.get("paper", paper["paper"]),
        source=recipe.get("source", paper["source"]),
        table=table["name"],
        note=table.get("note", ""),
        row=row["name"],
        column=column["name"],
        dataset=column["dataset"],
        metric=column["metric"] + (f" in chunk {row['chunk']}" if "chunk" in row else ""),
        protocol=protocol,
        match=_match(protocol, column, recipe["recipe"]),
        value=round(column.get("scale", 1) * value, 6),
        std=std,
        unit=column.get("unit", "percent"),
        decimals=column.get("decimals", table.get("decimals", 2)),
        recipe=recipe["recipe"],
        views=recipe["views"],
        pixel_views=recipe["pixel_views"],
        objective=recipe["objective"],
        filter=recipe.get("filter", ""),
        sweep=table.get("sweep"),
        x=row.get("x"),
    )
