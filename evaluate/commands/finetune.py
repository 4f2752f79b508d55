"""``finetune``: the whole encoder on few labels."""

from __future__ import annotations

import click

from genrep.cli import say
from genrep.settings import configured

from ..finetune.config import FinetuneConfig


@click.command("finetune")
@configured(FinetuneConfig)
def command(config: FinetuneConfig) -> None:
    """Fine-tune an encoder on few labels, end to end, and test it.

    The settings are VISSL's for ImageNet with 1 % and 10 % of the labels, by which COP-Gen was measured. The result is the
    last epoch's; it goes into OUT/finetune.json. The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-evaluate finetune --encoder runs/x --dataset imagenet --root /data --labels 1% --out runs/x
    """
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
