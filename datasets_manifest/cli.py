"""The command genrep-manifest: show, check, repair, rebuild, send and fetch datasets."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import LazyGroup, run

COMMANDS = {
    "show": "Print what a dataset is.",
    "list": "List the datasets of the catalogue.",
    "browse": "Make a page to look at a dataset.",
    "verify": "Check a dataset against its manifest.",
    "diff": "Show how two datasets differ.",
    "repair": "Restore bad and missing shards.",
    "rebuild": "Rebuild a dataset from its manifest.",
    "pull": "Fetch a dataset.",
    "push": "Publish a dataset.",
    "card": "Write the dataset card and Croissant metadata.",
    "export": "Convert a dataset to other formats.",
    "sign": "Sign a dataset, so that others can check who made it.",
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
    """Show, check, share, repair and rebuild the datasets that genrep-generate makes.

    \b
    Example:
      genrep-manifest show shards/
      genrep-manifest verify shards/ --level full
    """


def main() -> None:
    """Entry point of the console script."""
    run(group)
