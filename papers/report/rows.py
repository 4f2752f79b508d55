"""The rows of a report: what is asked for, and everything that is known of each, its results and the facts of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .facts import RunFacts, read_facts
from .measured import Measured, read_measured
from .page import Table
from .papers import check_keys


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the tables: one way to train an encoder, in one run or in several that differ in their seed.

    A run's folder holds results, and where it is a training's, config.json and metrics.jsonl.
    """

    name: str
    runs: tuple[Path, ...] = ()  # folders, or result files
    results: tuple[Path, ...] = ()  # further folders or files with results of the same encoders
    published: tuple[str, ...] = ()  # keys of published rows (papers.Published.key) that it repeats

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown key, or a row of nothing."""
        if not self.runs and not self.results:
            raise ValueError(f"row {self.name!r}: wanted a run or results")
        check_keys(self.published)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of a report."""

    rows: tuple[Row, ...]
    out: Path  # gets report.md, report.html and plots
    title: str = "Report"
    text: tuple[str, ...] = ()  # paragraphs under the title

    def __post_init__(self) -> None:
        """Raises ValueError where two rows have one name."""
        names = [row.name for row in self.rows]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"rows {', '.join(names)}: wanted different names, at least one")


def rows_of(texts: Sequence[str]) -> tuple[Row, ...]:
    """Rows from ``NAME=DIR`` or ``DIR``, in order of their first run.

    A folder without a name is called by its last part, or by its path where another row is called that.
    """
    named: dict[str, list[Path]] = {}
    taken = [Path(text).resolve().name for text in texts if "=" not in text or Path(text).exists()]
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = Path(text).resolve().name, text
            if taken.count(name) > 1 or name in named:
                name = text
        named.setdefault(name, []).append(Path(path))
    return tuple(Row(name=name, runs=tuple(paths)) for name, paths in named.items())


@dataclass(frozen=True, kw_only=True)
class RowData:
    """A row with what its files hold."""

    row: Row
    measured: list[Measured]
    runs: list[RunFacts]

    @property
    def name(self) -> str:
        """The row's."""
        return self.row.name

    @property
    def configs(self) -> list[Mapping[str, Any]]:
        """Of the runs that are trainings'."""
        return [run.config for run in self.runs if run.config is not None]

    @property
    def missing(self) -> list[str]:
        """Why facts of the data are not known."""
        return list(dict.fromkeys(data.missing for run in self.runs for data in run.data if data.missing))


def read_row(row: Row) -> RowData:
    """Read a row's files. Raises DataError, naming the one that is missing, broken or something else."""
    measured = read_measured((*row.runs, *row.results))
    return RowData(row=row, measured=measured, runs=[read_facts(path) for path in row.runs])


def duration(seconds: float) -> str:
    """For people.

    >>> duration(7.3), duration(600), duration(9000)
    ('7 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def every(values: Iterable[Any]) -> str:
    """The different values, in order; empty where nothing is recorded."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def encoders_table(rows: list[RowData]) -> Table:
    """A line of facts for each row; columns of which nothing is recorded are left out."""
    columns: list[tuple[str, Callable[[RowData], str]]] = [
        ("encoder", _encoder),
        ("objective", lambda row: every(config.get("objective") for config in row.configs)),
        ("trained on", _data),
        ("positive", lambda row: every(config.get("positive") for config in row.configs)),
        ("pixel views", lambda row: every(config.get("pixel_views") for config in row.configs)),
        ("length", lambda row: every(map(_length, row.configs))),
        ("batch", lambda row: every(config.get("batch_size") for config in row.configs)),
        ("seed", lambda row: every(config.get("seed") for config in row.configs)),
        ("training", lambda row: every(duration(run.seconds) for run in row.runs if run.seconds)),
        ("on", lambda row: every(map(_hardware, row.configs))),
        ("data made in", _data_time),
        ("sha256", _digests),
    ]
    cells = [(name, [told(row) for row in rows]) for name, told in columns]
    cells = [(name, column) for name, column in cells if any(column)]
    return Table(
        head=["", *(name for name, _ in cells)],
        rows=[[row.name, *(column[k] for _, column in cells)] for k, row in enumerate(rows)],
    )


def _encoder(row: RowData) -> str:
    said = [one.entry.get("encoder") for one in row.measured] or row.configs
    told = []
    for facts in said:
        if isinstance(facts, Mapping):
            trained = "" if facts.get("trained", True) else ", random"
            told.append(f"{facts.get('arch', '?')}, {facts.get('stem', '?')} stem{trained}")
    return every(told)


def _data(row: RowData) -> str:
    told = []
    for run in row.runs:
        config = run.config or {}
        if config.get("online"):
            told.append(f"{config.get('gen')}, {config.get('views') or 'its views'}, made while training")
        elif run.data:
            mix, limit = config.get("mix"), config.get("limit")
            share = f" ({100 * mix:.3g} % replaced)" if isinstance(mix, (int, float)) else ""
            part = f", {config.get('num_pairs')} of them" if limit not in (None, 1, 1.0) else ""
            told.append(" + ".join(data.what for data in run.data) + share + part)
    return every(told)


def _length(config: Mapping[str, Any]) -> str:
    steps = f"{config['total_steps']:,} steps" if isinstance(config.get("total_steps"), int) else ""
    epochs = "" if config.get("epochs") is None else f"{config['epochs']} epochs"
    return ", ".join(part for part in (epochs, steps) if part)


def _hardware(config: Mapping[str, Any]) -> str:
    processes = config.get("processes")
    many = f" x {processes}" if isinstance(processes, int) and processes > 1 else ""
    return f"{config['device']}{many}" if config.get("device") else ""


def _data_time(row: RowData) -> str:
    told = []
    for build in (data.build for run in row.runs for data in run.data if data.build):
        if _number(build.get("seconds")):
            devices = build.get("device")
            where = f" on {', '.join(map(str, devices))}" if isinstance(devices, list) and devices else ""
            told.append(duration(build["seconds"]) + where)
    return every(told)


def _digests(row: RowData) -> str:
    digests = (str(one.entry["encoder_sha256"])[:8] for one in row.measured if one.entry.get("encoder_sha256"))
    return ", ".join(dict.fromkeys(digests))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
