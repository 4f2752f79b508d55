"""Results beside the published numbers."""

from .papers import Published, find_row, published
from .rows import ReportConfig, Row, rows_of
from .write import ReportResult, write_report

__all__ = ["Published", "ReportConfig", "ReportResult", "Row", "find_row", "published", "rows_of", "write_report"]
