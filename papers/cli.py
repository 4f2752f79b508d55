"""``genrep-evaluate``: the protocols of evaluate/, and the papers' tables made of them."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import LazyGroup, run
from genrep.evaluate.cli import packages

PACKAGES = {
    **packages(),
    "genrep.papers.commands": {
        "reproduce": "Repeat a paper's table and report it beside the published one.",
        "table": "Print results side by side.",
        "report": "Write a page of results beside the published numbers.",
        "source": "Measure datasets beside real images.",
    },
}


@click.group(
    name="genrep-evaluate",
    cls=LazyGroup,
    packages=PACKAGES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def group() -> None:
    """Measure encoders. Every number is recorded together with its protocol.

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate report runs/* --out report
    """


def main() -> None:
    """The console script."""
    run(group)
