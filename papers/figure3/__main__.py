"""``python -m genrep.papers.figure3``."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import run
from genrep.option_types import PATH, PATH_TEXT

from .ways import BATCH_SIZES, PNG_PAIRS, Figure3Config


@click.command("figure3")
@click.option(
    "--gen",
    type=PATH_TEXT,
    default="stylegan2_fashion",
    show_default=True,
    help="The generator, as of genrep-generate.",
)
@click.option("--views", type=PATH_TEXT, help="Latent view of the online pairs.  [default: the recipe's]")
@click.option(
    "--batch-size",
    "batch_sizes",
    type=click.IntRange(2, PNG_PAIRS),
    multiple=True,
    default=BATCH_SIZES,
    show_default=True,
    help="Pairs per update of each device. May be repeated.",
)
@click.option("--step/--no-step", default=True, show_default=True, help="Train, or load only.")
@click.option("--images", type=int, default=126_789, show_default=True, help="Pairs of an epoch.")
@click.option("--epochs", type=int, default=20, show_default=True, help="Number of epochs that CO2 is told of.")
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Length of a turn.")
@click.option("--rounds", type=int, default=3, show_default=True, help="Turns of each way.")
@click.option("--workers", type=int, default=8, show_default=True, help="Processes or threads of each file loader.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--devices", type=click.IntRange(min=1), help="Number that train together.  [default: all GPUs, or one CPU]"
)
@click.option("--co2/--no-co2", default=None, help="Estimate CO2.  [default: where codecarbon is installed]")
@click.option("--country", default="USA", show_default=True, help="Whose electricity: ISO code of three letters.")
@click.option("--out", type=PATH, help="A JSON file for the numbers, with the settings.")
def figure3(**options: Any) -> None:
    """Print images/s, device-seconds, energy and CO2 of an epoch for each way and batch size."""
    from .measure import codecarbon_installed, measure_all

    if options["co2"] and not codecarbon_installed():
        raise click.UsageError("--co2: codecarbon is not installed; pip install 'genrep[energy]'")
    try:
        config = Figure3Config(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    measure_all(config)


if __name__ == "__main__":
    run(figure3)
