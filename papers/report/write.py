"""A report from rows to files: results beside the published numbers, with notes and pictures.

Each dataset and protocol has a table, so that unlike numbers share no column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import DataError
from genrep.evaluate.results import DATA
from genrep.files import locked_folder, write_atomic, write_json
from genrep.look.plots import no_plots, plots_installed

from .config import ReportConfig
from .measured import ResultGroup, Stats, differences, grouped, other_data, suite_means
from .page import Block, BulletList, Fold, Heading, Paragraph, Picture, Table, to_html, to_markdown
from .papers import Published, published
from .plots import Sweep, draw_curves, draw_sweep, find_sweeps, has_curves, published_of
from .rows import RowData, duration, encoders_table, every, read_row

UNITS = {"percent": "%"}
MARKDOWN_FILE, HTML_FILE, RESULTS_FILE = "report.md", "report.html", "report-results.json"


def stats_text(stats: Stats | None) -> str:
    """``61.52 ± 0.31``; empty for nothing."""
    if stats is None:
        return ""
    return f"{stats.mean:.2f}" + ("" if stats.std is None else f" ± {stats.std:.2f}")


def comparable(group: ResultGroup) -> list[Published]:
    """The published numbers that may stand beside a group's."""
    names = group.quantities
    return [one for one in published() if one.metric in names and one.comparable(group.dataset, group.protocol)]


def titles(groups: Sequence[ResultGroup]) -> list[str]:
    """The title of each group's table. Groups of the same dataset and kind are distinguished by how their protocols differ."""
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


def result_blocks(rows: Sequence[RowData], groups: Sequence[ResultGroup]) -> list[Block]:
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


def _group_table(rows: Sequence[RowData], group: ResultGroup, beside: Sequence[Published]) -> Table:
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
    beside_only = list(dict.fromkeys(one.key for one in beside if one.key not in said))
    for key in beside_only:
        own = [one for one in beside if one.key == key]
        blank = [""] * (len(group.quantities) + 1)
        lines.append([f"published: {own[0].row} ({own[0].what})", *blank, *_cells(own, columns), "", ""])
    theirs = ["published" in name for name in head]
    their_rows = [False] * (len(lines) - len(beside_only)) + [True] * len(beside_only)
    return Table(head=head, rows=lines, right=right, their_columns=theirs, their_rows=their_rows)


def _ours(group: ResultGroup, row: str) -> list[str]:
    stats = [group.stats(row, name) for name in group.quantities]
    return [*map(stats_text, stats), next((one.count for one in stats if one is not None), "")]


def _cells(own: Sequence[Published], columns: Sequence[tuple[str, str]]) -> list[str]:
    """Published values of a row, and where they are from; nothing where there are no columns."""
    if not columns:
        return []
    values = ["; ".join(one.text for one in own if (one.protocol.name, one.metric) == column) for column in columns]
    return [*values, every(one.where for one in own)]


def _cost(group: ResultGroup, row: str) -> list[str]:
    """Time of one result, and the hardware that it was measured on."""
    entries = [one.entry for one in group.entries[row]]
    seconds = [entry["seconds"] for entry in entries if isinstance(entry.get("seconds"), (int, float))]
    where = []
    for entry in entries:
        processes = entry.get("processes")
        many = f" x {processes}" if isinstance(processes, int) and processes > 1 else ""
        where.append(f"{entry['device']}{many}" if entry.get("device") else "")
    return [duration(sum(seconds) / len(seconds)) if seconds else "", every(where)]


def other_numbers(rows: Sequence[RowData], groups: Sequence[ResultGroup]) -> list[Published]:
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
        BulletList(list(dict.fromkeys(f"{one.protocol.name}: {one.protocol.says}" for one in shown))),
    ]


def protocol_blocks(groups: Sequence[ResultGroup]) -> list[Block]:
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
    return [Heading("Papers"), BulletList(list(papers))] if papers else []


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """The files that were written."""

    markdown: Path
    html: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...]  # what is not on the page, and why


def write_report(config: ReportConfig) -> ReportResult:
    """Write report.md, report.html and their plots. The same inputs give the same bytes.

    ``report-results.json`` holds every result with its protocol, as it was measured: ``[{"row": …, "results": […]}, …]``.

    Raises:
        DataError: a file is missing, broken or not what its name says, or no row has a result.
    """
    rows = [read_row(row) for row in config.rows]
    by_name = {row.name: row.measured for row in rows}
    groups = grouped(by_name) + grouped({name: suite_means(entries) for name, entries in by_name.items()})
    if not groups:
        places = ", ".join(str(path) for row in rows for path in (*row.row.runs, *row.row.results))
        raise DataError(f"{places}: no results; genrep-evaluate linear --out DIR writes some")
    sweeps = find_sweeps(rows, groups)
    notes = [*other_data(groups), *_notes(rows, plots=has_curves(rows) or bool(sweeps))]
    pictures: list[Picture] = []
    blocks = _blocks(config, rows, groups, sweeps, notes, pictures)
    with locked_folder(config.out):
        for picture in pictures:
            write_atomic(config.out / picture.name, picture.plot.light)
        measured = [{"row": row.name, "results": [one.entry for one in row.measured]} for row in rows]
        write_json(config.out / RESULTS_FILE, measured)
        write_atomic(config.out / MARKDOWN_FILE, to_markdown(config.title, blocks).encode())
        write_atomic(config.out / HTML_FILE, to_html(config.title, blocks).encode())
    return ReportResult(
        markdown=config.out / MARKDOWN_FILE,
        html=config.out / HTML_FILE,
        pictures=tuple(config.out / picture.name for picture in pictures),
        notes=tuple(notes),
    )


def _notes(rows: Sequence[RowData], *, plots: bool) -> list[str]:
    """Notes about what is missing from the page. ``plots``: whether there is anything to plot."""
    notes = [f"{row.name}: no results yet" for row in rows if not row.measured]
    notes += [f"{row.name}: {why}: its views are not known" for row in rows for why in row.missing]
    return notes + ([no_plots()] if plots and not plots_installed() else [])


def _blocks(
    config: ReportConfig,
    rows: Sequence[RowData],
    groups: Sequence[ResultGroup],
    sweeps: Sequence[Sweep],
    notes: Sequence[str],
    pictures: list[Picture],
) -> list[Block]:
    """The page from top to bottom; its pictures are added to ``pictures``."""
    others = other_numbers(rows, groups)
    shown: list[Published] = [one for group in groups for one in comparable(group)] + others
    blocks: list[Block] = [
        *map(Paragraph, config.text),
        Heading("Results"),
        Paragraph(
            "± is the standard deviation (N - 1): over encoders where a row has several, each by the mean of its seeds, "
            "else over the seeds of the evaluation. Time is that of one result."
        ),
        *result_blocks(rows, groups),
        *other_blocks(rows, others),
    ]
    if plots_installed():
        called = dict(zip((group.digest for group in groups), titles(groups)))
        for number, sweep in enumerate(sweeps, 1):
            title, what = sweep.kind.title, called[sweep.group.digest]
            picture = Picture(
                name=f"report-{sweep.kind.name}-{number}.png", plot=draw_sweep(sweep, what), alt=f"{title}: {what}"
            )
            blocks += [*([] if Heading(title) in blocks else [Heading(title)]), picture]
            pictures.append(picture)
            shown += published_of(sweep)
    blocks += [Heading("Encoders"), encoders_table(list(rows))]
    if plots_installed() and has_curves(rows):
        pictures.append(Picture(name="report-curves.png", plot=draw_curves(rows), alt="Training curves"))
        blocks += [Heading("Training"), pictures[-1]]
    blocks += [*protocol_blocks(groups), *source_blocks(shown)]
    return blocks + ([Heading("Notes"), BulletList(notes)] if notes else [])
