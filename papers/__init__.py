"""The papers' tables: as data, as runs of our commands, and as reports beside the published numbers.

The only folder that knows all others: tasks call generate/, train/ and evaluate/, and a report reads what they left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrep.imports import lazy

if TYPE_CHECKING:
    from .report import ReportConfig, write_report
    from .reproduce.config import ReproduceConfig
    from .reproduce.run import reproduce

__all__ = ["ReportConfig", "ReproduceConfig", "reproduce", "write_report"]

# Found when asked for, so that `genrep-evaluate --help` does not wait for torch.
_LAZY = {
    "ReportConfig": "report.config",
    "write_report": "report",
    "ReproduceConfig": "reproduce.config",
    "reproduce": "reproduce.run",
}

__getattr__ = lazy(__name__, _LAZY)
