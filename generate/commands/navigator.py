"""``fit-navigator`` and ``measure-delta``: latent views learned against mutual information, and how far they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.option_types import PATH, PATH_TEXT, WHOLE, IntRange


@click.command("fit-navigator")
@click.option(
    "--gen",
    metavar="NAME|FILE.toml|MODULE:FACTORY",
    type=PATH_TEXT,
    required=True,
    help="The generator; it stays as it is.",
)
@click.option("--weights", metavar="FILE[#NETWORK]", type=PATH, help="Weights instead of the recipe's own.")
@click.option("--features", metavar="FILE", type=PATH, help="Instance features, for IC-GAN.")
@click.option("--truncation", type=float, help="The generator's own: psi of StyleGAN2.  [default: the recipe's]")
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The run's folder.")
@click.option(
    "--preset", metavar="cop-gen|hl", default="cop-gen", show_default=True, help="Whose settings to begin with."
)
@click.option("--chunks", metavar="A-B", help="Move these chunks of a hierarchical latent only.")
@click.option("--layers", metavar="A-B", help="StyleGAN2: replace w of these layers only.")
@click.option("--walk", metavar="mlp|linear", help="T: with a ReLU between its two layers, or without.")
@click.option("--reduction", type=WHOLE, help="The hidden layer is this many times narrower.")
@click.option("--init", metavar="torch|small", help="COP-Gen's start, or HL's close to the identity.")
@click.option("--max-distance", metavar="DELTA", type=float, help="Project T(z) on the ball of this radius.")
@click.option(
    "--supervised", is_flag=True, default=None, help="Images of a class are positives of each other (SupCon)."
)
@click.option("--samples", metavar="ANCHORS", type=WHOLE, help="Stop after these.")
@click.option("--stop-at-loss", type=float, help="Or when f's loss has risen to this after its first fall (HL).")
@click.option("--batch-size", metavar="PAIRS", type=WHOLE)
@click.option("--lr-walk", type=float, help="Adam's learning rate for T.")
@click.option("--lr-f", type=float, help="Adam's learning rate for the estimator f.")
@click.option("--temperature", type=float, help="Of InfoNCE.")
@click.option("--pixel-views", metavar="simclr|no-color|no-crop|none", help="T_x on what f sees.")
@click.option(
    "--crop",
    metavar="PIXELS",
    type=WHOLE,
    help="Side of the images that f sees, at most their own.  [default: their own; hl: 112]",
)
@click.option("--arch", help="Of f.")
@click.option("--stem", metavar="imagenet|cifar", help="Of f.")
@click.option("--seed", type=WHOLE)
@click.option("--device", help="auto, cpu, cuda, cuda:1, ...")
@click.option("--precision", metavar="auto|fp32|bf16", help="Of f.")
@click.option("--checkpoint-samples", metavar="ANCHORS", type=WHOLE, help="Between checkpoints, saved T and strips.")
@click.option("--log-every", metavar="STEPS", type=WHOLE)
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def fit_navigator_command(preset: str, dry_run: bool, **options: Any) -> None:
    """Learn a latent view T adversarially: f estimates mutual information, T lowers it (COP-Gen; HL).

    Options that are not given are the preset's; --dry-run prints them. The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-generate fit-navigator --gen stylegan2_fashion --max-distance 1.5 --samples 30000 --out runs/navigator
      genrep-generate dataset --views navigator:weights=runs/navigator/navigator.safetensors --out shards
    """
    from ..fits.config import NavigatorConfig

    try:
        config = NavigatorConfig.of_preset(preset, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from ..fits.navigator import fit_navigator
    from ..sources.visibility import warning

    result = fit_navigator(config)
    say(f"navigator      {result.path}")
    say(f"strip          {result.strip}")
    say(f"pixels change  by {result.pixel_change:.2f} of 255 levels on average")
    if (said := warning(result.pixel_change)) is not None:
        say(f"warning: {said}", err=True)
    say(f"stopped        by {result.stopped} after {result.samples} anchors, loss of f {result.loss_f:.3f}")
    say_leftovers([config.out / "checkpoint.pt"])


@click.command("measure-delta")
@click.argument("walks", metavar="RUN...", nargs=-1, type=PATH)
@click.option("--out", metavar="FILE.json", type=PATH, required=True, help="The table.")
@click.option(
    "--gen", metavar="NAME", type=PATH_TEXT, help="Whose latent law to use, for files that do not state theirs."
)
@click.option("--anchors", metavar="N", type=WHOLE, default=1_000_000, show_default=True)
@click.option("--batch-size", metavar="ANCHORS", type=WHOLE, default=8192, show_default=True)
@click.option("--seed", type=WHOLE, default=0, show_default=True)
def measure_delta_command(walks: tuple[Path, ...], **options: Any) -> None:
    """How far learned views move a latent: mean and deviation of |T(z)| per chunk (HL, Table 1), as json and plot.

    \b
    Example:
      genrep-generate measure-delta runs/navigator-* --out delta.json
    """
    from ..fits.config import DeltaConfig

    try:
        config = DeltaConfig(walks=walks, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    from ..fits.navigator_measure import measure_delta

    measure_delta(config)
    say(f"written to {config.out} and {config.out.with_suffix('.png')}")


@click.command("compare-navigator")
@click.argument("run", metavar="RUN", type=PATH)
@click.option("--batches", type=IntRange(min=2), default=20, show_default=True)
@click.option("--seed", type=IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def compare_navigator_command(run: Path, **options: Any) -> None:
    """InfoNCE of a run's estimator on positives of T, against random walks of the same length."""
    import json

    from ..fits.navigator_measure import compare_run

    click.echo(json.dumps(compare_run(run, **options), indent=2, sort_keys=True, default=str))
