"""``card``: what a dataset says of itself."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import say

from .options import folder_argument


@click.command("card")
@folder_argument
@click.option("--force", is_flag=True, help="Replace also files that somebody edited.")
def command(folder: Path, force: bool) -> None:
    """Write README.md and croissant.json of the dataset in DIR.

    A dataset card as Hugging Face reads it, and Croissant metadata with the sha256 of every shard: generator, weights and
    licence, latent law, views, biases and risks, how to cite. A build does this by itself. From the manifest alone, so the
    same bytes each time; a file that somebody edited is left alone.

    \b
    Example:
      genrep-manifest card shards/
    """
    from genrep.errors import DatasetError

    from ..cards import CardConfig, write_card

    report = write_card(CardConfig(folder=folder, force=force))
    for name in report.written:
        say(folder / name)
    if report.kept:
        raise DatasetError(
            f"{folder}: {' and '.join(report.kept)}: edited, or not written by this command; --force replaces"
        )
