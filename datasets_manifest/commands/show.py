"""``show``: what a dataset is."""

from __future__ import annotations

import json

import click

from genrep.cli import say
from genrep.option_types import PATH_TEXT


@click.command("show")
@click.argument("source", metavar="DIR|URL|FILE.json", type=PATH_TEXT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: a summary and the whole manifest.")
def command(source: str, as_json: bool) -> None:
    """Print what a dataset is.

    Recipe, size, fields, licence, provenance, contact sheet: all from the manifest, not checked against the shards.

    \b
    Example:
      genrep-manifest show shards/
      genrep-manifest show https://example.org/shards
      genrep-manifest show shards/ --json | jq .manifest.recipe
    """
    from ..describe import describe, summary
    from ..sources import load_manifest

    manifest = load_manifest(source)
    if as_json:
        facts = {"summary": summary(source, manifest), "manifest": manifest.to_json()}
        click.echo(json.dumps(facts, indent=2, sort_keys=True))
    else:
        for line in describe(source, manifest):
            say(line)
