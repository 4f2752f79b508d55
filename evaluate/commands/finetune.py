"""``finetune``: the whole encoder on few labels."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, settings_of
from genrep.option_types import COUNT, PATH

from ..finetune.config import VISSL, FinetuneConfig
from .options import POSITIVE_FLOAT, encoder_options, image_options, run_options

setting = settings_of(FinetuneConfig)


@click.command("finetune")
@encoder_options
@image_options
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder whose finetune.json gets the result.")
@setting("--labels", metavar="P%|N-per-class", help="Part of each class that has labels (1%, 10%), or so many images.")
@setting(
    "--subset",
    type=PATH,
    metavar="FILE",
    help="File names, one per line, instead: SimCLR's 1percent.txt, 10percent.txt.",
)
@setting("--size", type=COUNT, metavar="PIXELS", help="Shorter side of test images.  [default: 8/7 of --crop]")
@setting("--crop", type=COUNT, metavar="PIXELS", help="Side of crops.  [default: what the encoder was trained at]")
@setting("--epochs", type=COUNT, help=f"Passes over the labelled images.  [default: {VISSL.epochs}]")
@setting("--lr", type=POSITIVE_FLOAT, help=f"Of SGD.  [default: {VISSL.lr:g} at batch 256, in proportion]")
@setting(
    "--batch-size", type=COUNT, metavar="IMAGES", help=f"Images per update.  [default: {VISSL.batch_size}, or all]"
)
@setting("--workers", type=COUNT, help="Threads that decode images.  [default: one per core]")
@run_options
def command(dry_run: bool, **options: Any) -> None:
    """Fine-tune an encoder on few labels, end to end, and test it.

    The settings are VISSL's for ImageNet with 1 % and 10 % of the labels, by which COP-Gen was measured. The result is the
    last epoch's; it goes into OUT/finetune.json. The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-evaluate finetune --encoder runs/x --dataset imagenet --root /data --labels 1% --out runs/x
    """
    try:
        config = FinetuneConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from ..finetune.run import evaluate_finetune

    result = evaluate_finetune(config)
    for entry in result.entries:
        top5 = f", top-5 {entry['top5']:.2f}" if "top5" in entry else ""
        told = f"last of {entry['protocol']['epochs']} epochs, lr {entry['lr']:.3g}, seed {entry['seed']}"
        told = f"done before; {told}" if result.already_done else told
        say(
            f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} % of {entry['n']} test images{top5} "
            f"({entry['protocol']['train_images']} labels, {told}): {result.path}"
        )
    if result.std is not None:
        say(f"mean of {len(result.entries)} seeds {result.mean:.2f} ± {result.std:.2f}")
