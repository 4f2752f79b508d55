"""The command line of ``few-label``."""

from __future__ import annotations

import click

from genrep.cli import say_leftovers, tell
from genrep.settings import configured

from .config import FewLabelConfig


@click.command("few-label")
@configured(FewLabelConfig)
def few_label_command(config: FewLabelConfig) -> None:
    """Measure an encoder by logistic regression on a few labels of each class.

    The labelled images are drawn many times. All encoders get the same draws, which are functions of the seed. A result is the
    mean over draws with its 95 % interval. One for each number of labels is added to OUT/few-label.json together with
    everything needed to repeat it.

    \b
    Example:
      genrep-evaluate few-label --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate few-label --encoder last.pth --dataset cars/ --labels 1,5 --size 112 --out results/genrep
    """
    from .run import evaluate_few_label

    results = evaluate_few_label(config)
    told = []
    for result in results:
        entry = result.entry
        low, high = entry["interval"]
        told.append(
            f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} % ({low:.2f} to {high:.2f}) of {entry['n']} test "
            f"images ({'done before; ' if result.already_done else ''}{entry['protocol']['labels_per_class']} labels a class, "
            f"{config.draws} draws)"
        )
    told.append(f"{results[0].path}")
    facts = {
        "path": results[0].path,
        "already_done": all(result.already_done for result in results),
        "entries": [result.entry for result in results],
    }
    tell(facts, told)
    say_leftovers([config.out / "features"], "to measure again")
