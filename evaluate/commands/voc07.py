"""``genrep-evaluate voc07``."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, settings_of
from genrep.encoders import DEVICES
from genrep.evaluate.voc.config import PROTOCOLS, SPLITS, Voc07Config
from genrep.option_types import COUNT, PATH, Choice, IntRange

from .options import encoder_options

setting = settings_of(Voc07Config)


@click.command(name="voc07")
@encoder_options
@click.option("--data", required=True, type=PATH, metavar="DIR", help="Folder in Pascal VOC's layout, e.g. VOC2007.")
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder whose voc07.json gets the result.")
@setting(
    "--protocol",
    type=Choice(PROTOCOLS),
    help="default: VOC's, difficult objects ignored, 11-point AP; genrep: difficult objects count, area under the curve.",
)
@setting(
    "--split",
    type=Choice(SPLITS),
    help="Fitted on / tested on.  [default: trainval/test; under --protocol genrep train/val]",
)
@click.option(
    "--classes",
    metavar="A,B,…|measurable",
    help="Classes to tell; others are dropped. measurable: all that enough images of both splits show.  [default: all]",
)
@setting("--size", type=COUNT, metavar="PIXELS", help="Shorter side, and the central square's.")
@setting("--batch-size", type=COUNT, metavar="IMAGES", help="Of the forward pass.")
@setting("--workers", type=COUNT, metavar="PROCESSES", help="That fit SVMs.  [default: one per core]")
@setting("--seed", type=IntRange(min=0), help="Of the SVMs' solver, and of --random-init.")
@setting("--device", type=Choice(DEVICES), help="auto: the GPU if there is one.")
@click.option("--force", is_flag=True, help="Replace an earlier result of this dataset, protocol and seed.")
@click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit.")
def command(dry_run: bool, classes: str | None, **options: Any) -> None:
    """VOC07 classification: one linear SVM per class on a frozen encoder's features, mean average precision.

    The cost of each class's SVM is chosen among 26 by 3-fold cross-validation on the training images.

    \b
    Example:
      genrep-evaluate voc07 --encoder runs/x --data VOCdevkit/VOC2007 --out runs/x
      genrep-evaluate voc07 --encoder runs/x --data VOCdevkit/VOC2007 --out runs/x --protocol genrep
    """
    names = tuple(part.strip() for part in classes.split(",")) if classes else ()
    try:
        config = Voc07Config(classes=names, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from genrep.evaluate.voc.run import evaluate_voc07

    result = evaluate_voc07(config)
    entry = result.entry
    say(
        f"{entry['dataset']} mAP {entry['value']:.2f} % (11-point {entry['values']['11point']:.2f}, area "
        f"{entry['values']['area']:.2f}) of {entry['n']} test images ({'done before; ' if result.already_done else ''}"
        f"{'/'.join(config.splits)}, {config.protocol}, seed {config.seed}): {result.path}"
    )
