"""``genrep-train``: one command, one library call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from genrep.cli import print_config, run
from genrep.encoders import ARCHS, DEVICES, PRECISIONS, STEMS
from genrep.pixel_views import PIXEL_VIEWS

from .config import DEFAULT_EPOCHS, POSITIVES, TrainConfig

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULTS = {name: field.default for name, field in TrainConfig.__dataclass_fields__.items()}
POSITIVE_FLOAT = click.FloatRange(min=0, min_open=True)


def setting(flag: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option whose default is the config's, shown unless it is None (then the help text says what happens)."""
    default = DEFAULTS[flag.strip("-").replace("-", "_")]
    return click.option(flag, default=default, show_default=default is not None, **attributes)


@click.command(name="genrep-train", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of shards.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the run.")
# Network
@setting("--arch", type=click.Choice(list(ARCHS)), help="torchvision's ResNet.")
@setting(
    "--stem", type=click.Choice(STEMS), help="imagenet: 7x7 of stride 2 and pooling; cifar: 3x3, for small images."
)
# Length and optimiser
@setting("--epochs", type=click.IntRange(min=1), help=f"Passes over the data.  [default: {DEFAULT_EPOCHS}]")
@setting("--steps", type=click.IntRange(min=1), help="Updates, instead of --epochs.")
@setting("--batch-size", type=click.IntRange(min=2), metavar="PAIRS", help="Pairs per update.")
@setting("--lr", type=POSITIVE_FLOAT, help="Peak rate of SGD at batch 256; scaled in proportion to --batch-size.")
@setting("--weight-decay", type=click.FloatRange(min=0), help="On every parameter.")
@setting("--momentum", type=click.FloatRange(min=0, max=1, max_open=True), help="Of SGD.")
@setting(
    "--warmup-epochs",
    type=click.FloatRange(min=0),
    metavar="EPOCHS",
    help="Linear warm-up before the cosine.  [default: 0; above batch 256: 10, at most a tenth of the run]",
)
# Objective and views
@setting("--temperature", type=POSITIVE_FLOAT, help="Of InfoNCE.")
@setting(
    "--positive",
    type=click.Choice(POSITIVES),
    help="What the second view is of: the stored positive, the anchor itself, or one of several stored positives drawn"
    " anew each epoch.  [default: stored, or anchor where the set stores none]",
)
@setting("--pixel-views", type=click.Choice(list(PIXEL_VIEWS)), help="Pixel augmentations of both views.")
@setting(
    "--crop",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the images that the network sees.  [default: the stored size up to 64, else 112]",
)
@setting("--limit", type=click.FloatRange(min=0, min_open=True, max=1), metavar="FRACTION", help="Train on a part.")
# Run
@setting("--seed", type=click.IntRange(min=0), help="Of initialisation, order and views.")
@setting("--device", type=click.Choice(DEVICES), help="auto: the GPU if there is one.")
@setting("--precision", type=click.Choice(PRECISIONS), help="auto: bf16 where the device computes in it natively.")
@setting(
    "--workers", type=click.IntRange(min=1), help="Threads that read ahead.  [default: the cores but one, at most 8]"
)
@setting("--checkpoint-every", type=click.IntRange(min=1), metavar="EPOCHS", help="A checkpoint to resume from.")
@setting("--log-every", type=click.IntRange(min=1), metavar="STEPS", help="A line in metrics.jsonl.")
@click.option("--dry-run", is_flag=True, help="Print the resolved settings as JSON and exit.")
def command(dry_run: bool, **options: Any) -> None:
    """Train an encoder by SimCLR on pairs of anchors and positives.

    Leaves encoder.safetensors in the run's folder, with torchvision's key names. The same command again goes on after an
    interruption, at the last epoch's checkpoint; in the folder of a run with other settings it refuses.

    \b
    Example:
      genrep-train --data shards/ --out runs/gaussian --epochs 40 --lr 0.12
    """
    try:
        config = TrainConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        from .plan import resolve

        print_config(resolve(config))
        return
    from .run import train

    result = train(config)
    if result.already_finished:
        click.echo(f"{result.encoder}: finished already, nothing to do")
        return
    plan = result.plan
    click.echo(
        f"{result.encoder}: {plan.arch} ({plan.stem} stem, {plan.crop} px), {plan.total_steps} steps, "
        f"final loss {result.loss:.4f}, {result.images_per_s:.0f} images/s"
    )


def main() -> None:
    """The console script."""
    run(command)
