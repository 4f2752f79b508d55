"""``linear``: a linear classifier on a frozen encoder."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers, settings_of
from genrep.option_types import COUNT, PATH, Choice

from ..linear.config import LR_RULE, PRESETS, LinearConfig
from .options import POSITIVE_FLOAT, encoder_options, image_options, precision_option, run_options

setting = settings_of(LinearConfig)


@click.command("linear")
@encoder_options
@image_options
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder whose linear.json gets the result.")
@setting("--preset", type=Choice(list(PRESETS)), help="Whose protocol.")
@setting(
    "--size",
    type=COUNT,
    metavar="PIXELS",
    help="Resize the shorter side to this.  [default: the preset's; frozen: what the encoder was trained at, for folders]",
)
@setting(
    "--crop", type=COUNT, metavar="PIXELS", help="Side of crops.  [default: the preset's, in proportion to --size]"
)
@setting("--epochs", type=COUNT, help="Passes over the training images.  [default: the preset's; most: 60]")
@setting(
    "--lr",
    type=POSITIVE_FLOAT,
    help=f"Of SGD.  [default: the preset's; frozen: {LR_RULE:g} / mean squared length of the training features]",
)
@click.option(
    "--lr-grid",
    multiple=True,
    type=POSITIVE_FLOAT,
    metavar="LR",
    help="A further head with this rate, told beside the result. May be repeated.  [default: the preset's]",
)
@setting("--batch-size", type=COUNT, metavar="IMAGES", help="Images per update.  [default: the preset's]")
@setting("--feature-batch", type=COUNT, metavar="IMAGES", help="Images per forward pass, where nothing is random.")
@precision_option
@setting("--workers", type=COUNT, help="Threads that decode images.  [default: one per core]")
@click.option("--cache/--no-cache", default=True, help="Keep features in OUT/features.  [default: cache]")
@run_options
def command(dry_run: bool, lr_grid: tuple[float, ...], **options: Any) -> None:
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
    try:
        config = LinearConfig(lr_grid=lr_grid or None, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
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
