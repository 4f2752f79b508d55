"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from genrep.encoders import ARCHS, DEVICES, PRECISIONS, STEMS
from genrep.images.sets import SETS
from genrep.option_types import PATH, PATH_TEXT, Choice

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
