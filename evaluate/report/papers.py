"""The papers' numbers (published/*.toml), and whether a result was measured by the same protocol."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

FILES = ("genrep.toml", "cop_gen.toml", "hl.toml")


@dataclass(frozen=True, kw_only=True)
class PublishedProtocol:
    """How a published number was measured."""

    name: str
    kind: str  # ``name`` of our protocols of the same kind
    says: str
    match: Mapping[str, Any]  # fields of a result's protocol that must be equal; none: no result of ours is comparable
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
    test_images: int | None
    value: float
    unit: str
    decimals: int  # that are printed
    recipe: str  # generator whose images trained the encoder; "real:NAME" for real ones
    views: str  # T_z, as --views takes it
    pixel_views: str
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
        """What trained the encoder.

        >>> find_row("genrep-table5/real")[0].what
        'supcon, real imagenet100'
        """
        return f"{self.objective}, {self.recipe.replace(':', ' ')}"

    @property
    def text(self) -> str:
        """The value as printed."""
        return f"{self.value:.{self.decimals}f}"

    def comparable(self, dataset: str, protocol: Mapping[str, Any]) -> bool:
        """Whether a result on ``dataset`` by ``protocol`` may stand beside it."""
        wanted = self.protocol
        if not wanted.match or not (wanted.any_folder or dataset == self.dataset):
            return False
        if self.test_images not in (None, protocol.get("test_images")):
            return False
        return all(protocol.get(name) == value for name, value in wanted.match.items())


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


def _read(name: str) -> list[Published]:
    content = tomllib.loads((files(__package__) / "published" / name).read_text(encoding="utf-8"))
    protocols = {
        key: PublishedProtocol(
            name=key,
            kind=value["kind"],
            says=value["says"],
            match={**match, "name": value["kind"]} if (match := value.get("match")) else {},
            any_folder=value.get("any_folder", False),
        )
        for key, value in content["protocols"].items()
    }
    return [
        _number(content, table, row, column, value, protocols[column["protocol"]])
        for table in content["tables"]
        for row in table["rows"]
        for column, value in zip(table["columns"], row["values"], strict=True)
    ]


def _number(
    paper: dict[str, Any],
    table: dict[str, Any],
    row: dict[str, Any],
    column: dict[str, Any],
    value: float,
    protocol: PublishedProtocol,
) -> Published:
    recipe = {**table, **row}
    return Published(
        key=f"{table['id']}/{row['id']}",
        paper=paper["paper"],
        source=paper["source"],
        table=table["name"],
        note=table.get("note", ""),
        row=row["name"],
        column=column["name"],
        dataset=column["dataset"],
        metric=column["metric"],
        protocol=protocol,
        test_images=column.get("test_images"),
        value=round(column.get("scale", 1) * value, 6),
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
