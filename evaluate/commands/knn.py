"""``knn``: weighted k-nearest neighbours."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.encoders import DEVICES
from genrep.option_types import PATH, Choice, IntRange

from .options import encoder_options, image_options, normalise_options, precision_option


@click.command("knn")
@encoder_options
@normalise_options
@image_options
@click.option(
    "--size",
    type=IntRange(min=1),
    metavar="PIXELS",
    help="Resize images to this shorter side and take the centre.  [default: files: what the encoder was trained at]",
)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder whose knn.json gets the result.")
@click.option("--k", type=IntRange(min=1), default=20, show_default=True, help="Neighbours that vote.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=0.07,
    show_default=True,
    help="A neighbour's weight is exp(cosine similarity / temperature).",
)
@click.option(
    "--feature-batch",
    type=IntRange(min=1),
    default=256,
    show_default=True,
    metavar="IMAGES",
    help="Images per forward pass.",
)
@precision_option
@click.option("--workers", type=IntRange(min=1), help="Threads that decode.  [default: one per core]")
@click.option("--cache/--no-cache", default=True, help="Keep the features in OUT/features.  [default: cache]")
@click.option("--seed", type=IntRange(min=0), default=0, show_default=True, help="Of --random-init.")
@click.option("--device", type=Choice(DEVICES), default="auto", show_default=True, help="auto: the GPU if any.")
@click.option("--force", is_flag=True, help="Replace an earlier result of this dataset, protocol and seed.")
@click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit.")
def command(dry_run: bool, **options: Any) -> None:
    """Top-1 accuracy of the vote of each test image's nearest training images.

    No training: the features' cosine similarities decide (Wu et al. 2018). The result goes into OUT/knn.json with
    everything needed to repeat it.

    \b
    Example:
      genrep-evaluate knn --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate knn --encoder last.pth --dataset cars/ --size 112 --out results/genrep
    """
    from ..knn import KnnConfig, evaluate_knn

    try:
        config = KnnConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    result = evaluate_knn(config)
    entry = result.entry
    top5 = "" if entry["top5"] is None else f", top-5 {entry['top5']:.2f} %"
    say(
        f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} %{top5} of {entry['n']} test images "
        f"({'done before; ' if result.already_done else ''}k {entry['protocol']['k']}, "
        f"temperature {entry['protocol']['temperature']:g}): {result.path}"
    )
    say_leftovers([config.out / "features"], "to measure again")
