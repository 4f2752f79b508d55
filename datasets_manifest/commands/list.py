"""``list``: the datasets that there are."""

from __future__ import annotations

import json

import click

from genrep.cli import say


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue's entries as JSON.")
def command(as_json: bool) -> None:
    """List the datasets of the catalogue.

    Those that can be fetched by name, and those that one command here makes.

    \b
    Example:
      genrep-manifest list
    """
    from ..catalogue import entries

    found = entries()
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in found], indent=2, sort_keys=True))
        return
    for entry in found:
        for line in entry.lines():
            say(line)
