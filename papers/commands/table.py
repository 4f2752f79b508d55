"""``table``: results side by side."""

from __future__ import annotations

import click

from genrep.cli import say
from genrep.option_types import PATH_TEXT


@click.command("table")
@click.argument("results", nargs=-1, required=True, metavar="[NAME=]DIR...", type=PATH_TEXT)
def command(results: tuple[str, ...]) -> None:
    """Print results side by side, one table per dataset and protocol.

    A row is named as given, else after its folder; several seeds get a line with their mean.

    \b
    Example:
      genrep-evaluate table "random init"=runs/random gaussian=runs/gaussian
    """
    from genrep.evaluate.table import results_table

    from ..report.rows import rows_of

    say(results_table([(row.name, path) for row in rows_of(results) for path in row.runs]))
