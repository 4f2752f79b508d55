"""Options made from a config's fields, and those of every command that reads labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from genrep.encoders import DEVICES, PRECISIONS
from genrep.images.sets import SETS
from genrep.option_types import PATH, PATH_TEXT, Choice

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]
POSITIVE_FLOAT = click.FloatRange(min=0, min_open=True)


def parse_seeds(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """``0`` or ``0,1,2``, in the order given."""
    if not all(part.isdecimal() for part in value.split(",")):
        raise click.BadParameter(f"{value!r}: wanted numbers like 0 or 0,1,2", ctx, param)
    return tuple(int(part) for part in value.split(","))


def image_options(command: Command) -> Command:
    """``--dataset``, ``--root`` and ``--download``."""
    options = (
        click.option(
            "--dataset",
            "--data",
            "dataset",
            required=True,
            metavar="NAME|DIR",
            type=PATH_TEXT,
            help=f"{', '.join(SETS)}; or an image folder.",
        ),
        click.option("--root", type=PATH, metavar="DIR", help="Where named datasets lie, or are downloaded to."),
        click.option("--download", is_flag=True, help="Fetch a named dataset that is not under --root."),
    )
    for option in reversed(options):
        command = option(command)
    return command


precision_option = click.option(
    "--precision",
    type=Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the frozen encoder. bf16: faster where the device computes in it (auto: if so), and another protocol.",
)


def run_options(command: Command) -> Command:
    """``--seed``, ``--device``, ``--force`` and ``--dry-run``."""
    options = (
        click.option(
            "--seed",
            "--seeds",
            "seeds",
            callback=parse_seeds,
            default="0",
            show_default=True,
            metavar="N[,N...]",
            help="Of everything random, --random-init included; a result for each.",
        ),
        click.option(
            "--device",
            type=Choice(DEVICES),
            default="auto",
            show_default=True,
            help="auto: the GPU if there is one.",
        ),
        click.option("--force", is_flag=True, help="Replace earlier results of this dataset, protocol and seed."),
        click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit."),
    )
    for option in reversed(options):
        command = option(command)
    return command
