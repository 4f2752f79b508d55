"""The command line of ``segmentation``."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import say_leftovers, tell
from genrep.settings import configured

from .config import SegmentationConfig


@click.command("segmentation")
@configured(SegmentationConfig)
def segmentation_command(config: SegmentationConfig) -> None:
    """Segment images from the patches of a frozen encoder, and measure mean intersection over union.

    A linear head is trained on the patches, or the nearest training patches vote. A ResNet gives its last map. The result is
    the mean over the classes that are in the test masks or were predicted. It is added to OUT/segmentation.json together
    with everything needed to repeat it. Running the same command again resumes an interrupted training.

    \b
    Example:
      genrep-evaluate segmentation --encoder runs/x --data ADEChallengeData2016 --out runs/x
      genrep-evaluate segmentation --encoder runs/x --preset capi --data VOCdevkit/VOC2012 --out runs/x
      genrep-evaluate segmentation --encoder runs/x --preset small --data shapes --classes 3 --out runs/x
    """
    from .run import evaluate_segmentation

    results = evaluate_segmentation(config)
    done = "done before; " if results.already_done else ""
    told = [f"{_line(entry, config.preset, done)}: {results.path}" for entry in results.entries]
    if results.std is not None:
        told.append(f"mean of {len(results.entries)} seeds {results.mean:.2f} ± {results.std:.2f}")
    facts = {
        "path": results.path,
        "already_done": results.already_done,
        "entries": results.entries,
        "mean": results.mean,
        "std": results.std,
    }
    tell(facts, told)
    if results.folder is not None:
        say_leftovers([results.folder / "checkpoint.pt"], "to test the head otherwise")
    say_leftovers([config.out / "features"], "to measure again")


def _line(entry: dict[str, Any], preset: str, done: str) -> str:
    values = entry["values"]
    how = f"k {entry['k']}, {entry['distance']}" if "k" in entry else f"{entry['protocol']['steps']} steps"
    return (
        f"{entry['dataset']} mIoU {entry['value']:.2f} % of {len(entry['protocol']['classes'])} classes, pixels "
        f"{values['pixel_accuracy']:.2f} % of {entry['n']} test images ({done}{preset}, {how}, seed {entry['seed']})"
    )
