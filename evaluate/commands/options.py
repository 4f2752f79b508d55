"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from genrep.encoders import ARCHS, STEMS
from genrep.option_types import PATH_TEXT, Choice

Command = TypeVar("Command", bound=Callable[..., Any])
ENCODER_METAVAR = "RUN|FILE[#NETWORK]|MODULE:FACTORY"
ENCODER_HELP = (
    "A run's folder, a ResNet's checkpoint (torchvision, timm, transformers, detectron2, GenRep, COP-Gen, MoCo, SimSiam, BYOL, "
    "Lightning), its index of shards or its folder, or package.module:factory. #NETWORK takes one of several in a file."
)


def encoder_options(command: Command) -> Command:
    """``--encoder``, ``--random-init``, ``--arch`` and ``--stem``, as ``evaluate.encoders.open_encoder`` takes them."""
    options = (
        click.option("--encoder", metavar=ENCODER_METAVAR, type=PATH_TEXT, help=ENCODER_HELP),
        click.option("--random-init", is_flag=True, help="An untrained encoder instead, of --arch and --stem."),
        click.option("--arch", type=Choice(list(ARCHS)), help="With --random-init: torchvision's ResNet."),
        click.option("--stem", type=Choice(STEMS), default="imagenet", show_default=True, help="With --random-init."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _channels(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, float, float] | None:
    if value is None:
        return None
    try:
        red, green, blue = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: wanted three numbers R,G,B, e.g. 0.5,0.5,0.5") from None
    return red, green, blue


def normalise_options(command: Command) -> Command:
    """``--mean`` and ``--std``: what ``open_encoder`` takes for files that do not say how their images were normalised."""
    for name, what in (("--std", "Standard deviation"), ("--mean", "Mean")):
        command = click.option(
            name,
            callback=_channels,
            metavar="R,G,B",
            help=f"{what} of the images that the encoder wants, in [0, 1].  [default: the file's, else ImageNet's]",
        )(command)
    return command
