"""A report from rows to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import DataError
from genrep.files import locked_folder, write_atomic, write_json

from .measured import Group, grouped, other_data, suite_means
from .page import Block, Heading, Listing, Paragraph, Picture, to_html, to_markdown
from .papers import Published
from .plots import draw_curves, draw_sweep, has_curves, plots_installed, published_of
from .rows import ReportConfig, RowData, encoders_table, read_row
from .sweeps import Sweep, find_sweeps
from .tables import comparable, other_blocks, other_numbers, protocol_blocks, result_blocks, source_blocks, titles

MARKDOWN_FILE, HTML_FILE, RESULTS_FILE = "report.md", "report.html", "report-results.json"
NO_PLOTS = "matplotlib is not installed: no plots; pip install genrep[plots]"


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """What was written."""

    markdown: Path
    html: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...]  # what is not on the page, and why


def write_report(config: ReportConfig) -> ReportResult:
    """Write report.md, report.html and their plots; the same bytes for the same files.

    ``report-results.json`` holds every result with its protocol, as it was measured: ``[{"row": …, "results": […]}, …]``.

    Raises:
        DataError: a file is missing, broken or something else than its name says, or no row has a result.
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
            write_atomic(config.out / picture.name, picture.png)
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
    """What is not on the page; ``plots``: whether there is anything to plot."""
    notes = [f"{row.name}: no results yet" for row in rows if not row.measured]
    notes += [f"{row.name}: {why}: its views are not known" for row in rows for why in row.missing]
    return notes + ([NO_PLOTS] if plots and not plots_installed() else [])


def _blocks(
    config: ReportConfig,
    rows: Sequence[RowData],
    groups: Sequence[Group],
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
                name=f"report-{sweep.kind.name}-{number}.png", png=draw_sweep(sweep, what), alt=f"{title}: {what}"
            )
            blocks += [*([] if Heading(title) in blocks else [Heading(title)]), picture]
            pictures.append(picture)
            shown += published_of(sweep)
    blocks += [Heading("Encoders"), encoders_table(list(rows))]
    if plots_installed() and has_curves(rows):
        pictures.append(Picture(name="report-curves.png", png=draw_curves(rows), alt="Training curves"))
        blocks += [Heading("Training"), pictures[-1]]
    blocks += [*protocol_blocks(groups), *source_blocks(shown)]
    return blocks + ([Heading("Notes"), Listing(notes)] if notes else [])
