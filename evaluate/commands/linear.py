"""``linear``: a linear classifier on a frozen encoder."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import say, say_leftovers
from genrep.settings import configured

from ..linear.config import LinearConfig


@click.command("linear")
@configured(LinearConfig)
def command(config: LinearConfig) -> None:
    """Accuracy of a linear classifier on a frozen encoder.

    The result is the last epoch's; it goes into OUT/linear.json with everything needed to repeat it.

    \b
    Presets: frozen (features of whole images, once), genrep, cop-gen, hl and vissl (random crops and flips in
    training, with the papers' pixels, rates and epochs), simclr-lbfgs (logistic regression).

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate linear --random-init --arch resnet18 --dataset cifar10 --root data --out runs/random --seed 0,1,2
      genrep-evaluate linear --encoder runs/x --preset genrep --dataset imagenet100 --root /data --out runs/x
    """
    from ..linear.run import evaluate_linear

    result = evaluate_linear(config)
    for entry in result.entries:
        say(f"{_line(entry, result.already_done)}: {result.path}")
    if result.std is not None:
        say(f"mean of {len(result.entries)} seeds {result.mean:.2f} ± {result.std:.2f}")
    say_leftovers([config.out / "features"], "to measure again")


def _line(entry: dict[str, Any], done: bool) -> str:
    protocol = entry["protocol"]
    parts = ["done before"] if done else []
    if "epochs" in protocol:
        parts += [f"last of {protocol['epochs']} epochs", f"batch {protocol['batch_size']}", f"lr {entry['lr']:.3g}"]
        parts += [f"seed {entry['seed']}; best epoch {entry['best_value']:.2f}"]
        parts += [f"lr {head['lr']:.3g}: {head['value']:.2f}" for head in entry["lr_grid"]]
    else:
        parts += [f"l2 {entry['l2']:.3g}", f"seed {entry['seed']}"]
    top5 = f", top-5 {entry['top5']:.2f}" if "top5" in entry else ""
    return (
        f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} % of {entry['n']} test images{top5} "
        f"({', '.join(parts)})"
    )
