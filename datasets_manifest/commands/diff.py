"""``diff``: in what two datasets differ."""

from __future__ import annotations

import json

import click

from genrep.cli import say
from genrep.option_types import PATH_TEXT


@click.command("diff")
@click.argument("one", metavar="A", type=PATH_TEXT)
@click.argument("other", metavar="B", type=PATH_TEXT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(one: str, other: str, as_json: bool) -> None:
    """Print in what two datasets differ.

    A and B are folders, manifest files or addresses. Exits with 0 if every shard of both is the same, byte for
    byte, else with 1. Who built them, when, on what, is told but does not count. Reads the manifests only.

    \b
    Example:
      genrep-manifest diff shards/ rebuilt/
    """
    from ..recovery.compare import compare
    from ..sources import load_manifest

    found = compare(load_manifest(one), load_manifest(other))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, sort_keys=True))
    else:
        for line in found.lines():
            say(line)
    if not found.same_bytes:
        raise click.exceptions.Exit(1)
