"""An option that several commands share."""

from __future__ import annotations

import click

from genrep.option_types import PATH

REPORT = click.option("--report", metavar="FILE.json", type=PATH, help="Write the result there as well.")
