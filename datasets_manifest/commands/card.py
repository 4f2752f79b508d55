"""``card``: what a dataset says of itself."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import say
from genrep.settings import from_options, options

from ..cards import CardConfig


@click.command("card")
@options(CardConfig)
def command(**values: Any) -> None:
    """Write README.md and croissant.json of the dataset in DIR.

    A dataset card as Hugging Face reads it, and Croissant metadata with the sha256 of every shard: generator, weights and
    licence, latent law, views, biases and risks, how to cite. A build does this by itself. From the manifest alone, so the
    same bytes each time; a file that somebody edited is left alone.

    \b
    Example:
      genrep-manifest card shards/
    """
    from genrep.errors import DatasetError

    from ..cards import write_card

    config = from_options(CardConfig, values)
    report = write_card(config)
    for name in report.written:
        say(config.folder / name)
    if report.kept:
        raise DatasetError(
            f"{config.folder}: {' and '.join(report.kept)}: edited, or not written by this command; --force replaces"
        )
