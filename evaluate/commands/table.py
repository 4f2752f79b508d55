"""``table``: results side by side."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("table")
@click.argument("results", nargs=-1, required=True, metavar="[NAME=]DIR...")
def command(results: tuple[str, ...]) -> None:
    """Print results side by side, one table per dataset and protocol.

    A row is named as given, else after its folder; several seeds get a line with their mean.

    \b
    Example:
      genrep-evaluate table "random init"=runs/random gaussian=runs/gaussian
    """
    from ..table import results_table

    rows = []
    for text in results:
        name, separator, path = text.rpartition("=")
        rows.append((name if separator else Path(path).name, Path(path)))
    click.echo(results_table(rows))
