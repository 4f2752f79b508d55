"""The commands of genrep-manifest, and the options that several of them share (../cli.py lists the commands)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.files import write_json
from genrep.option_types import NEW_FILE

REPORT = click.option("--report", metavar="FILE.json", type=NEW_FILE, help="Also write the result to this file.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the settings and exit.")


def write_report(path: Path | None, found: Any) -> None:
    """Write the file of ``--report``, if it was given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found.to_json())
