"""The command ``genrep-generate``."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import Group, run

from .commands.dataset import dataset, from_folder
from .commands.fits import (
    compare_navigator_command,
    fit_diffusion_command,
    fit_filter_command,
    fit_gan_command,
    fit_navigator_command,
    fit_steer_command,
    measure_delta_command,
    measure_gan_command,
)
from .commands.foreground import fit_foreground_command
from .commands.recipes import import_walk_command, list_recipes, preview_command, weights_command


@click.group("genrep-generate", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Turn a pretrained image generator into a dataset of anchor/positive pairs.

    \b
    Example:
      genrep-generate list
      genrep-generate preview --views gaussian:std=.2 --out sheet.png
      genrep-generate dataset --num-pairs 10000 --out shards
    """


COMMANDS = (  # in the order of the help text
    list_recipes,
    weights_command,
    preview_command,
    dataset,
    from_folder,
    fit_steer_command,
    fit_navigator_command,
    import_walk_command,
    measure_delta_command,
    compare_navigator_command,
    fit_filter_command,
    fit_diffusion_command,
    fit_foreground_command,
    fit_gan_command,
    measure_gan_command,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    run(cli)
