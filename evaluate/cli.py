"""``genrep-evaluate``: one command per protocol, one library call each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from genrep.cli import print_config, run
from genrep.encoders import ARCHS, DEVICES, STEMS

from .config import LR_RULE, LinearConfig

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULTS = {name: field.default for name, field in LinearConfig.__dataclass_fields__.items()}
PATH = click.Path(path_type=Path)
POSITIVE_FLOAT = click.FloatRange(min=0, min_open=True)


def setting(flag: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option whose default is the config's, shown unless it is None (then the help text says what happens)."""
    default = DEFAULTS[flag.strip("-").replace("-", "_")]
    return click.option(flag, default=default, show_default=default is not None, **attributes)


@click.group(name="genrep-evaluate", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Measure encoders; every number comes with its protocol.

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate table runs/*
    """


@group.command()
@setting("--encoder", type=PATH, metavar="RUN|FILE", help="A run's folder or an encoder.safetensors.")
@click.option("--random-init", is_flag=True, help="An untrained encoder instead, of --arch and --stem.")
@setting("--arch", type=click.Choice(list(ARCHS)), help="With --random-init: torchvision's ResNet.")
@setting("--stem", type=click.Choice(STEMS), help="With --random-init.")
@click.option("--dataset", required=True, metavar="NAME|DIR", help="fashion_mnist, cifar10, or an image folder.")
@setting("--root", type=PATH, metavar="DIR", help="Where named datasets lie, or are downloaded to.")
@click.option("--download", is_flag=True, help="Fetch a named dataset that is not under --root.")
@setting(
    "--size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Crop and resize an image folder's images to this side.  [default: what the encoder was trained at]",
)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder whose linear.json gets the result.")
@setting("--epochs", type=click.IntRange(min=1), help="Passes over the training features.")
@setting(
    "--lr", type=POSITIVE_FLOAT, help=f"Of SGD.  [default: {LR_RULE:g} / mean squared length of the training features]"
)
@click.option(
    "--lr-grid",
    multiple=True,
    type=POSITIVE_FLOAT,
    metavar="LR",
    help="A further head with this rate, told beside the result. May be repeated.",
)
@setting("--batch-size", type=click.IntRange(min=1), metavar="IMAGES", help="Images per update.")
@setting(
    "--seed", type=click.IntRange(min=0), help="Of the classifier's initialisation and order, and of --random-init."
)
@setting("--device", type=click.Choice(DEVICES), help="auto: the GPU if there is one.")
@click.option("--force", is_flag=True, help="Replace an earlier result of this dataset, protocol and seed.")
@click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit.")
def linear(dry_run: bool, **options: Any) -> None:
    """Top-1 accuracy of a linear classifier on a frozen encoder.

    The result is the last epoch's; it goes into OUT/linear.json with everything needed to repeat it.

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate linear --random-init --arch resnet18 --dataset fashion_mnist --root data --out runs/random
    """
    try:
        config = LinearConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from .run import evaluate_linear

    result = evaluate_linear(config)
    entry = result.entry
    click.echo(
        f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} % of {entry['n']} test images "
        f"({'done before; ' if result.already_done else ''}last of {entry['protocol']['epochs']} epochs, "
        f"batch {entry['protocol']['batch_size']}, lr {entry['lr']:.3g}, seed {entry['seed']}; best epoch "
        f"{entry['best_value']:.2f}): {result.path}"
    )


@group.command()
@click.argument("results", nargs=-1, required=True, metavar="[NAME=]DIR...")
def table(results: tuple[str, ...]) -> None:
    """Print results side by side, one table per dataset and protocol.

    A row is named as given, else after its folder.

    \b
    Example:
      genrep-evaluate table "random init"=runs/random gaussian=runs/gaussian
    """
    from .table import results_table

    rows = []
    for text in results:
        name, separator, path = text.rpartition("=")
        rows.append((name if separator else Path(path).name, Path(path)))
    click.echo(results_table(rows))


def main() -> None:
    """The console script."""
    run(group)
