"""``genrep-evaluate detection``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from genrep.cli import say, settings_of
from genrep.encoders import DEVICES, PRECISIONS
from genrep.evaluate.detection.config import NORMS, PRESETS, DetectionConfig
from genrep.option_types import COUNT, PATH, Choice, IntRange

from .options import POSITIVE_FLOAT, encoder_options

setting = settings_of(DetectionConfig)


@click.command(name="detection")
@encoder_options
@click.option(
    "--data",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="Folder in Pascal VOC's layout to train on. May be repeated: VOC2007 and VOC2012.",
)
@setting("--test-data", type=PATH, metavar="DIR", help="Folder to test on.  [default: the first --data]")
@setting("--train-split", metavar="NAME", help="List in ImageSets/Main.")
@setting("--test-split", metavar="NAME", help="List in ImageSets/Main.")
@click.option(
    "--classes",
    metavar="A,B,…|measurable",
    help="Classes to detect; others are dropped. measurable: all that have objects in both splits.  [default: all]",
)
@click.option("--out", type=PATH, metavar="DIR", help="Folder whose detection.json gets the result.")
# Training
@setting("--preset", type=Choice(list(PRESETS)), help="A paper's settings; small: half an hour on a CPU.")
@setting(
    "--norm",
    type=Choice(NORMS),
    help="batch: batch norm, over all processes; frozen: the encoder's statistics and gains stay.",
)
@setting("--steps", type=COUNT, help="Updates.  [default: the preset's]")
@setting("--batch-size", type=COUNT, metavar="IMAGES", help="Per update, over all processes.  [default: the preset's]")
@setting("--lr", type=POSITIVE_FLOAT, help="Of SGD at this batch size.  [default: the preset's]")
@setting("--warmup", type=IntRange(min=0), metavar="STEPS", help="Linear.  [default: the preset's]")
@setting("--clip-norm", type=POSITIVE_FLOAT, help="Largest norm of the gradients.  [default: the preset's]")
@click.option(
    "--min-sizes", metavar="PIXELS,…", help="Shorter sides in training, one drawn an image.  [default: the preset's]"
)
@setting("--max-size", type=COUNT, metavar="PIXELS", help="Longer side, training and test.  [default: the preset's]")
@setting("--test-size", type=COUNT, metavar="PIXELS", help="Shorter side in the test.  [default: the preset's]")
@setting("--precision", type=Choice(PRECISIONS), help="Of the convolutions.  [default: the preset's]")
# Run
@setting("--seed", type=IntRange(min=0), help="Of the new layers, the order, the augmentation and --random-init.")
@setting("--device", type=Choice(DEVICES), help="auto: the GPU if there is one.")
@setting("--workers", type=COUNT, metavar="THREADS", help="That read and resize images.")
@setting("--checkpoint-every", type=COUNT, metavar="STEPS", help="A checkpoint to resume from.")
@setting("--log-every", type=COUNT, metavar="STEPS", help="A line in metrics.jsonl.")
@click.option("--force", is_flag=True, help="Replace an earlier result of this dataset, protocol and seed.")
@click.option(
    "--export-detectron2",
    type=PATH,
    metavar="FILE.pkl",
    help="Only write the encoder as a checkpoint for detectron2, train nothing.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit.")
def command(
    dry_run: bool, export_detectron2: Path | None, classes: str | None, min_sizes: str | None, **options: Any
) -> None:
    """Fine-tune Faster R-CNN (R50-C4) on an encoder end to end and test it.

    The result is AP, AP50 and AP75 by VOC07's 11 points (the papers' tables), with VOC2010's and COCO's beside them. The
    same command again goes on after an interruption, at the last checkpoint. torchrun spreads a batch over GPUs.

    \b
    Example:
      genrep-evaluate detection --encoder runs/x --data VOCdevkit/VOC2007 --data VOCdevkit/VOC2012 --out runs/x
      genrep-evaluate detection --random-init --arch resnet18 --preset small --data BCCD --out runs/random
      genrep-evaluate detection --encoder runs/x --export-detectron2 x.pkl
    """
    if export_detectron2 is not None:
        _export(export_detectron2, options)
        return
    for name in ("data", "out"):
        if not options[name]:
            raise click.UsageError(f"Missing option '--{name}'.")
    names = tuple(part.strip() for part in classes.split(",")) if classes else ()
    try:
        sizes = tuple(int(part) for part in min_sizes.split(",")) if min_sizes else ()
    except ValueError:
        raise click.UsageError(f"--min-sizes {min_sizes}: wanted whole numbers with commas between") from None
    try:
        config = DetectionConfig(classes=names, min_sizes=sizes, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        click.echo(json.dumps(config.to_json(), indent=2, sort_keys=True, default=str))
        return
    from genrep.evaluate.detection.run import evaluate_detection

    result = evaluate_detection(config)
    values = result.entry["values"]
    if values:  # in the first process only
        voc, coco = values["voc07"], values["coco"]
        say(
            f"{result.entry['dataset']} AP {voc['AP']:.2f} AP50 {voc['AP50']:.2f} AP75 {voc['AP75']:.2f} % (VOC07), "
            f"COCO {coco['AP']:.2f} {coco['AP50']:.2f} {coco['AP75']:.2f} % of {result.entry['n']} test images "
            f"({'done before; ' if result.already_done else ''}{config.preset}, seed {config.seed}): {result.path}"
        )


def _export(path: Path, options: dict[str, Any]) -> None:
    from genrep.encoders import export_encoder
    from genrep.encoders.export import check_export
    from genrep.evaluate.encoders import check_encoder_choice, open_encoder

    choice = {name: options[name] for name in ("encoder", "random_init", "arch", "stem")}
    try:
        check_encoder_choice(**choice)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        check_export(path, "detectron2")
    except ValueError as error:
        raise click.UsageError(str(error).replace("--out", "--export-detectron2", 1)) from error
    arch = export_encoder(open_encoder(**choice, seed=options["seed"]).module, path, "detectron2")
    say(f"{path}: {arch} for detectron2 (MODEL.WEIGHTS; STRIDE_IN_1X1 False, FORMAT RGB)")
