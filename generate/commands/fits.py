"""What is learned through a frozen generator: ``fit-steer``, ``fit-navigator`` and ``fit-filter``, and its measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.option_types import PATH, PATH_TEXT, WHOLE, IntRange

from .options import gen_option, generator_options, root_options


@click.command("fit-steer")
@gen_option
@generator_options
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The run's folder.")
@click.option("--samples", metavar="IMAGES", type=WHOLE, default=160_000, show_default=True, help="Stop after these.")
@click.option("--batch-size", metavar="IMAGES", type=WHOLE, default=32, show_default=True)
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Adam's learning rate.")
@click.option("--seed", type=WHOLE, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--checkpoint-samples", metavar="IMAGES", type=WHOLE, default=20_000, show_default=True, help="Between checkpoints."
)
@click.option("--log-every", metavar="STEPS", type=WHOLE, default=50, show_default=True)
@click.option(
    "--measure-images",
    metavar="N",
    type=WHOLE,
    default=256,
    show_default=True,
    help="That the effects are measured on.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def fit_steer_command(dry_run: bool, **options: Any) -> None:
    """Learn walks w with G(z + alpha w) close to T(G(z), alpha), for shift, zoom, turn and colour (GenRep section 3.2).

    Ends with a picture of the walks and a measurement of their effects. The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-generate fit-steer --gen stylegan2_fashion --lr 0.003 --samples 48000 --out runs/steer
      genrep-generate dataset --views steered:walks=runs/steer/walks.safetensors --out shards
    """
    from ..fits.config import SteerConfig

    try:
        config = SteerConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from ..fits.steering import fit_steer

    result = fit_steer(config)
    say(f"walks          {result.path}")
    say(f"picture        {result.sheet}")
    for curve in result.curves:
        say(f"{curve.name:14} {'rises with alpha' if curve.rises else 'does not rise throughout'}")
    say_leftovers([config.out / "checkpoint.pt"])


@click.command("fit-navigator")
@gen_option
@generator_options
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
    from ..sources.open import warning

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


@click.command("fit-filter")
@gen_option
@click.option(
    "--data",
    metavar="NAME|DIR",
    type=PATH_TEXT,
    required=True,
    help="Real images: fashion_mnist, cifar10, imagenet, or a folder.",
)
@root_options
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The run's folder.")
@generator_options
@click.option("--images", metavar="N", type=WHOLE, help="Real images shown.  [default: each once, one epoch]")
@click.option(
    "--batch-size",
    metavar="IMAGES",
    type=WHOLE,
    default=64,
    show_default=True,
    help="Real ones, and as many generated.",
)
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Adam's learning rate.")
@click.option("--seed", type=WHOLE, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--checkpoint-images", metavar="N", type=WHOLE, default=20_000, show_default=True)
@click.option("--log-every", metavar="STEPS", type=WHOLE, default=20, show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def fit_filter_command(dry_run: bool, **options: Any) -> None:
    """Learn to tell real images from generated ones, to keep the more real half of these (HL's discriminator).

    The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-generate fit-filter --gen stylegan2_fashion --data fashion_mnist --root data --download --out runs/filter
      genrep-generate dataset --filter keep=0.5,weights=runs/filter --out shards
    """
    from ..fits.config import FilterConfig

    try:
        config = FilterConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from ..fits.filtering import fit_filter

    result = fit_filter(config)
    held_out = result.held_out
    say(f"filter         {result.path}")
    say(f"picture        {result.sheet}")
    say(f"training       {result.images} real images and as many generated ones in {result.seconds:.1f} s")
    say(
        f"held out       accuracy {held_out['accuracy']:.3f}, score {held_out['score_real']['mean']:.3f} of real images, "
        f"{held_out['score_generated']['mean']:.3f} of generated ones ({held_out['score_kept']['mean']:.3f} of the upper "
        f"half, {held_out['score_rejected']['mean']:.3f} of the lower)"
    )
    say_leftovers([config.out / "checkpoint.pt"])
