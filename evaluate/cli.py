"""The protocols' command lines: one command per protocol, one library call each. ``genrep-evaluate`` adds the papers' verbs."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import LazyGroup, run

from .protocol import PROTOCOLS

COMMANDS = "genrep.evaluate.commands"


def packages() -> dict[str, dict[str, str]]:
    """For each home of commands their names, with a line about each."""
    listed = {name: (one.package or COMMANDS, one.summary) for name, one in PROTOCOLS.items()}
    listed["export"] = (COMMANDS, "Write an encoder as a checkpoint for other libraries.")
    found: dict[str, dict[str, str]] = {}
    for name, (package, summary) in sorted(listed.items()):
        found.setdefault(package, {})[name] = summary
    return found


@click.group(
    name="genrep-evaluate",
    cls=LazyGroup,
    packages=packages(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def group() -> None:
    """Measure encoders. Every number is recorded together with its protocol.

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
    """


def main() -> None:
    """``python -m genrep.evaluate``."""
    run(group)
