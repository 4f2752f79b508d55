"""``genrep-evaluate voc07``."""

from __future__ import annotations

import click

from genrep.cli import say
from genrep.settings import configured

from ..voc.config import Voc07Config


@click.command(name="voc07")
@configured(Voc07Config)
def command(config: Voc07Config) -> None:
    """VOC07 classification: one linear SVM per class on a frozen encoder's features, mean average precision.

    The cost of each class's SVM is chosen among 26 by 3-fold cross-validation on the training images.

    \b
    Example:
      genrep-evaluate voc07 --encoder runs/x --data VOCdevkit/VOC2007 --out runs/x
      genrep-evaluate voc07 --encoder runs/x --data VOCdevkit/VOC2007 --out runs/x --protocol genrep
    """
    from genrep.evaluate.voc.run import evaluate_voc07

    result = evaluate_voc07(config)
    entry = result.entry
    say(
        f"{entry['dataset']} mAP {entry['value']:.2f} % (11-point {entry['values']['11point']:.2f}, area "
        f"{entry['values']['area']:.2f}) of {entry['n']} test images ({'done before; ' if result.already_done else ''}"
        f"{'/'.join(config.splits)}, {config.protocol}, seed {config.seed}): {result.path}"
    )
