"""Options that several commands share, where no config declares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from genrep.option_types import PATH, PATH_TEXT

Command = TypeVar("Command", bound=Callable[..., Any])


def root_options(command: Command) -> Command:
    """``--root`` and ``--download``, of every command that reads real images."""
    command = click.option("--download", is_flag=True, help="Fetch a named dataset that is not under --root.")(command)
    return click.option(
        "--root",
        metavar="DIR",
        type=PATH,
        help="Where a named dataset lies, or is downloaded to.",
    )(command)


def gen_option(command: Command) -> Command:
    """``--gen``, of every fit through a frozen generator."""
    return click.option(
        "--gen",
        metavar="NAME|FILE.toml|MODULE:FACTORY",
        type=PATH_TEXT,
        required=True,
        help="The generator; it stays as it is.",
    )(command)


def generator_options(command: Command) -> Command:
    """``--weights``, ``--features`` and ``--truncation`` of that generator."""
    for option in (
        click.option(
            "--truncation", type=float, help="The generator's own: psi of StyleGAN2.  [default: the recipe's]"
        ),
        click.option("--features", metavar="FILE", type=PATH, help="Instance features, for IC-GAN."),
        click.option(
            "--weights", metavar="FILE[#NETWORK]", type=PATH_TEXT, help="Weights instead of the recipe's own."
        ),
    ):
        command = option(command)
    return command
