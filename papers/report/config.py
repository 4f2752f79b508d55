"""Settings of a report: its rows, by name, and their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genrep.errors import ConfigError
from genrep.settings import config, setting

from .papers import check_keys


@config
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
            raise ConfigError(f"row {self.name!r}: wanted a run or results")
        check_keys(self.published)


@config
class ReportConfig:
    """Settings of a report."""

    rows: tuple[Row, ...]
    out: Path = setting(metavar="DIR", help="Folder for report.md, report.html and the plots.")  # and plots
    title: str = setting(default="Report", text=True, help="Title of the page.")
    text: tuple[str, ...] = ()  # paragraphs under the title

    def __post_init__(self) -> None:
        """Raises ConfigError where two rows have one name."""
        names = [row.name for row in self.rows]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"rows {', '.join(names)}: wanted different names, at least one")


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
