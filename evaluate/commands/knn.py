"""``knn``: weighted k-nearest neighbours."""

from __future__ import annotations

import click

from genrep.cli import say, say_leftovers
from genrep.settings import configured

from ..settings import KnnConfig


@click.command("knn")
@configured(KnnConfig)
def command(config: KnnConfig) -> None:
    """Top-1 accuracy of the vote of each test image's nearest training images.

    No training: the features' cosine similarities decide (Wu et al. 2018). The result goes into OUT/knn.json with
    everything needed to repeat it.

    \b
    Example:
      genrep-evaluate knn --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate knn --encoder last.pth --dataset cars/ --size 112 --out results/genrep
    """
    from ..knn import evaluate_knn

    result = evaluate_knn(config)
    entry = result.entry
    top5 = "" if entry["top5"] is None else f", top-5 {entry['top5']:.2f} %"
    say(
        f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} %{top5} of {entry['n']} test images "
        f"({'done before; ' if result.already_done else ''}k {entry['protocol']['k']}, "
        f"temperature {entry['protocol']['temperature']:g}): {result.path}"
    )
    say_leftovers([config.out / "features"], "to measure again")
