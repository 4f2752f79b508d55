"""The protocols' command lines: one command per protocol, one library call each. ``genrep-evaluate`` adds the papers' verbs."""

from __future__ import annotations

import click

from genrep import __version__
from genrep.cli import LazyGroup, run

# Each is ``command`` of the module of its name in ``commands/``, imported when it is asked for.
COMMANDS = {
    "detection": "Fine-tune a Faster R-CNN, and measure its AP.",
    "export": "Write an encoder as others read it.",
    "finetune": "Fine-tune an encoder on few labels.",
    "knn": "Accuracy of a weighted nearest-neighbour classifier.",
    "linear": "Accuracy of a linear classifier on a frozen encoder.",
    "transfer": "The papers' tables of linear probes in one go.",
    "voc07": "AP of linear SVMs on Pascal VOC 2007.",
}


@click.group(
    name="genrep-evaluate",
    cls=LazyGroup,
    packages={"genrep.evaluate.commands": COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def group() -> None:
    """Measure encoders; every number comes with its protocol.

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
    """


def main() -> None:
    """``python -m genrep.evaluate``."""
    run(group)
