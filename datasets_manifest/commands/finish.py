"""``finish``: the last step of a build in parts."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import say
from genrep.option_types import ParsedPath

from ..manifest import dataset_folder


@click.command("finish")
@click.argument("folder", metavar="DIR", type=ParsedPath(dataset_folder))
def command(folder: Path) -> None:
    """Write the manifest of a dataset built in parts.

    All shards in DIR must be done. Needs no generator. The last part to finish does this by itself.

    \b
    Example:
      genrep-manifest finish shards/
    """
    from ..finish import finish as finish_folder

    manifest = finish_folder(folder)
    say(f"{folder}: {manifest.num_pairs:,} pairs in {len(manifest.shards)} shards")
