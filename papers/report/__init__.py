"""Results beside the published numbers.

config.py    the rows that a report is asked for
rows.py      all that is known of them; measured.py: their results, gathered by what may be compared
papers.py    the papers' numbers (published/*.toml)
plots.py     pictures
page.py      Markdown and HTML
write.py     the report
"""

from typing import TYPE_CHECKING

from genrep.imports import lazy

if TYPE_CHECKING:
    from .config import ReportConfig, Row, rows_of
    from .papers import Published, find_row, published
    from .write import ReportResult, write_report

__all__ = ["Published", "ReportConfig", "ReportResult", "Row", "find_row", "published", "rows_of", "write_report"]

# Found when asked for, so that `genrep-evaluate report --help` does not wait for torch.
_LAZY = {
    **dict.fromkeys(("ReportConfig", "Row", "rows_of"), "config"),
    **dict.fromkeys(("Published", "find_row", "published"), "papers"),
    **dict.fromkeys(("ReportResult", "write_report"), "write"),
}

__getattr__ = lazy(__name__, _LAZY)
