"""The command ``genrep-generate``."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import Group, run

from .commands.dataset import dataset, from_folder
from .commands.fits import (
    compare_navigator_command,
    fit_filter_command,
    fit_gan_command,
    fit_navigator_command,
    fit_steer_command,
    measure_delta_command,
    measure_gan_command,
)
from .commands.recipes import import_walk_command, list_recipes, preview_command, weights_command


@click.group("genrep-generate", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Turn a pretrained image generator into a dataset of anchor/positive pairs."""


COMMANDS = (
    compare_navigator_command,
    dataset,
    fit_filter_command,
    fit_gan_command,
    fit_navigator_command,
    fit_steer_command,
    from_folder,
    import_walk_command,
    list_recipes,
    measure_delta_command,
    measure_gan_command,
    preview_command,
    weights_command,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    run(cli)
