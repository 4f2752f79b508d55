"""Results beside the published numbers: a table for each dataset and protocol, so that unlike numbers share no column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genrep.evaluate.results import DATA

from .measured import Group, Stats, differences
from .page import Block, Fold, Heading, Listing, Paragraph, Table
from .papers import Published, published
from .rows import RowData, duration, every

UNITS = {"percent": "%"}


def stats_text(stats: Stats | None) -> str:
    """``61.52 ± 0.31``; empty for nothing."""
    if stats is None:
        return ""
    return f"{stats.mean:.2f}" + ("" if stats.std is None else f" ± {stats.std:.2f}")


def comparable(group: Group) -> list[Published]:
    """The published numbers that may stand beside a group's."""
    names = group.quantities
    return [one for one in published() if one.metric in names and one.comparable(group.dataset, group.protocol)]


def titles(groups: Sequence[Group]) -> list[str]:
    """What each group's table is called; groups of one dataset and kind are told apart by how their protocols differ."""
    found = []
    for group in groups:
        like = [other for other in groups if (other.dataset, other.family) == (group.dataset, group.family)]
        apart = differences([_short_digests(other.protocol) for other in like])[like.index(group)]
        preset = group.protocol.get("preset") or group.protocol.get("variant")
        said = f"{group.dataset}, {group.family}" + (f", preset {preset}" if preset else "")
        apart = apart if len(apart) <= 120 else f"protocol {group.digest[:8]}"
        found.append(said + (f" ({apart})" if apart else ""))
    return found


def _short_digests(protocol: dict[str, object]) -> dict[str, object]:
    """With the first digits of the data's digests, which are enough for a title."""
    return {name: str(value)[:8] if name in DATA else value for name, value in protocol.items()}


def result_blocks(rows: Sequence[RowData], groups: Sequence[Group]) -> list[Block]:
    """The tables of results."""
    blocks: list[Block] = []
    for group, title in zip(groups, titles(groups)):
        beside = comparable(group)
        blocks += [Heading(title, 3), _group_table(rows, group, beside)]
        n = every(one.entry.get("n") for entries in group.entries.values() for one in entries)
        said = [f"Test images: {n}."] if n else []
        said.append(f"Protocol {group.digest[:8]}, in full below.")
        said += [f"Published numbers: {text}." for text in dict.fromkeys(one.protocol.says for one in beside)]
        blocks.append(Paragraph(" ".join(said)))
    return blocks


def _group_table(rows: Sequence[RowData], group: Group, beside: Sequence[Published]) -> Table:
    unit = str(group.first.get("unit", ""))
    columns = list(dict.fromkeys((one.protocol.name, one.metric) for one in beside))
    with_published = bool(columns)
    head = ["", *(f"{name} ({UNITS.get(unit, unit)})" if unit else name for name in group.quantities), "over"]
    head += [f"{metric}, published, {protocol}" for protocol, metric in columns]
    head += [*(["published in"] if with_published else []), "time", "on"]
    right = [name not in ("", "over", "published in", "on") for name in head]
    lines = []
    for row in rows:
        if row.name in group.entries:
            own = [one for one in beside if one.key in row.row.published]
            lines.append([row.name, *_ours(group, row.name), *_cells(own, columns), *_cost(group, row.name)])
    said = {key for row in rows if row.name in group.entries for key in row.row.published}
    for key in dict.fromkeys(one.key for one in beside if one.key not in said):
        own = [one for one in beside if one.key == key]
        blank = [""] * (len(group.quantities) + 1)
        lines.append([f"published: {own[0].row} ({own[0].what})", *blank, *_cells(own, columns), "", ""])
    return Table(head=head, rows=lines, right=right)


def _ours(group: Group, row: str) -> list[str]:
    stats = [group.stats(row, name) for name in group.quantities]
    return [*map(stats_text, stats), next((one.count for one in stats if one is not None), "")]


def _cells(own: Sequence[Published], columns: Sequence[tuple[str, str]]) -> list[str]:
    """Published values of a row, and where they are from; nothing where there are no columns."""
    if not columns:
        return []
    values = ["; ".join(one.text for one in own if (one.protocol.name, one.metric) == column) for column in columns]
    return [*values, every(one.where for one in own)]


def _cost(group: Group, row: str) -> list[str]:
    """Time of one result, and what it was measured on."""
    entries = [one.entry for one in group.entries[row]]
    seconds = [entry["seconds"] for entry in entries if isinstance(entry.get("seconds"), (int, float))]
    where = []
    for entry in entries:
        processes = entry.get("processes")
        many = f" x {processes}" if isinstance(processes, int) and processes > 1 else ""
        where.append(f"{entry['device']}{many}" if entry.get("device") else "")
    return [duration(sum(seconds) / len(seconds)) if seconds else "", every(where)]


def other_numbers(rows: Sequence[RowData], groups: Sequence[Group]) -> list[Published]:
    """Published numbers of the rows and datasets here that no result here may be compared with."""
    beside = {id(one) for group in groups for one in comparable(group)}
    named = {key for row in rows for key in row.row.published}
    measured = {(group.dataset, group.protocol.get("name")) for group in groups}
    return [
        one
        for one in published()
        if id(one) not in beside and (one.key in named or (one.dataset, one.protocol.kind) in measured)
    ]


def other_blocks(rows: Sequence[RowData], shown: Sequence[Published]) -> list[Block]:
    """The table of ``other_numbers``."""
    if not shown:
        return []
    named = {key: row.name for row in reversed(rows) for key in row.row.published}
    head = [
        "published",
        "encoder",
        "in",
        *(["our row"] if named else []),
        "measured on",
        "quantity",
        "value",
        "protocol",
    ]
    lines = [
        [
            one.row,
            one.what,
            one.where,
            *([named.get(one.key, "")] if named else []),
            one.dataset,
            f"{one.metric} ({UNITS.get(one.unit, one.unit)})",
            one.text,
            one.protocol.name,
        ]
        for one in shown
    ]
    return [
        Heading("Published, other protocol"),
        Paragraph("Not comparable with the results above: another test set, or measured in another way."),
        Table(head=head, rows=lines, right=[column == "value" for column in head]),
        Listing(list(dict.fromkeys(f"{one.protocol.name}: {one.protocol.says}" for one in shown))),
    ]


def protocol_blocks(groups: Sequence[Group]) -> list[Block]:
    """Every protocol in full."""
    folds: list[Block] = [
        Fold(
            f"{title}: {group.digest[:8]}",
            [(str(name), _value(value)) for name, value in sorted(group.protocol.items())],
        )
        for group, title in zip(groups, titles(groups))
    ]
    return [Heading("Protocols"), *folds]


def source_blocks(shown: Iterable[Published]) -> list[Block]:
    """The papers that numbers on the page are from."""
    papers = dict.fromkeys(f"{one.paper}: {one.source}" for one in shown)
    return [Heading("Papers"), Listing(list(papers))] if papers else []


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
