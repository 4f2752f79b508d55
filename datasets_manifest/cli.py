"""The command genrep-manifest: datasets looked at, checked, mended, made again, sent and fetched."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import LazyGroup, run

COMMANDS = {
    "show": "Print what a dataset is.",
    "list": "Print the published datasets.",
    "browse": "Make a page of a dataset to look at.",
    "verify": "Check a dataset against its manifest.",
    "diff": "Say how two datasets differ.",
    "repair": "Bring back bad and missing shards.",
    "rebuild": "Make a dataset again from its manifest.",
    "pull": "Fetch a dataset.",
    "push": "Publish a dataset.",
    "card": "Write the dataset card and Croissant metadata.",
    "export": "Write a dataset in other formats.",
    "sign": "Sign a dataset, so that others know whose it is.",
    "finish": "Write the manifest of a dataset built in parts.",
}


MODULES = {  # of commands/, imported when a verb is asked for: ``show_command``, …
    "inspect": ("show", "list", "browse", "verify", "diff"),
    "make": ("finish", "card", "sign", "export", "repair", "rebuild"),
    "transfer": ("pull", "push"),
}


@click.group(
    name="genrep-manifest",
    cls=LazyGroup,
    packages={"genrep.datasets_manifest.commands": COMMANDS},
    modules=MODULES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def group() -> None:
    """Datasets that genrep-generate made: look at them, check them, get them, make them again.

    \b
    Example:
      genrep-manifest show shards/
      genrep-manifest verify shards/ --level full
    """


def main() -> None:
    """Entry point of the console script."""
    run(group)
