"""What a report is asked for: rows, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
