"""The verbs of genrep-manifest, and the options that several of them share (../cli.py names the verbs)."""

from __future__ import annotations

import click

from genrep.option_types import PATH

REPORT = click.option("--report", metavar="FILE.json", type=PATH, help="Write the result there as well.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
