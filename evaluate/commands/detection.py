"""``genrep-evaluate detection``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.errors import ConfigError
from genrep.option_types import PATH
from genrep.settings import from_options, options

from ..detection.config import DetectionConfig
from ..settings import check_encoder_choice

FIRST = ("encoder", "random_init", "arch", "stem", "data", "test_data", "train_split", "test_split", "classes")


@click.command(name="detection")
@options(DetectionConfig, *FIRST)
@click.option("--out", type=PATH, metavar="DIR", help="Folder whose detection.json gets the result.")
@options(DetectionConfig, without=FIRST)
@click.option(
    "--export-detectron2",
    type=PATH,
    metavar="FILE.pkl",
    help="Only write the encoder as a checkpoint for detectron2, train nothing.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit.")
def command(dry_run: bool, export_detectron2: Path | None, **values: Any) -> None:
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
        _export(export_detectron2, values)
        return
    for name in ("data", "out"):
        if not values[name]:
            raise click.UsageError(f"Missing option '--{name}'.")
    config = from_options(DetectionConfig, values)
    if dry_run:
        print_config(config.to_json())
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
        say_leftovers([result.folder / "checkpoint.pt"], "to test the detector otherwise")


def _export(path: Path, options: dict[str, Any]) -> None:
    from genrep.encoders import export_encoder
    from genrep.encoders.export import check_export
    from genrep.evaluate.encoders import open_encoder

    choice = {name: options[name] for name in ("encoder", "random_init", "arch", "stem")}
    try:
        check_encoder_choice(**choice)
    except ConfigError as error:
        raise click.UsageError(error.in_shell()) from error
    try:
        check_export(path, "detectron2")
    except ValueError as error:
        raise click.UsageError(str(error).replace("--out", "--export-detectron2", 1)) from error
    arch = export_encoder(open_encoder(**choice, seed=options["seed"]).module, path, "detectron2")
    say(f"{path}: {arch} for detectron2 (MODEL.WEIGHTS; STRIDE_IN_1X1 False, FORMAT RGB)")
