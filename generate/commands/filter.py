"""``fit-filter``: a discriminator that picks the more real ones among generated images."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.option_types import PATH, PATH_TEXT, WHOLE

from .root import root_options


@click.command("fit-filter")
@click.option(
    "--gen",
    metavar="NAME|FILE.toml|MODULE:FACTORY",
    type=PATH_TEXT,
    required=True,
    help="The generator; it stays as it is.",
)
@click.option(
    "--data",
    metavar="NAME|DIR",
    type=PATH_TEXT,
    required=True,
    help="Real images: fashion_mnist, cifar10, imagenet, or a folder.",
)
@root_options
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The run's folder.")
@click.option("--weights", metavar="FILE[#NETWORK]", type=PATH, help="Weights instead of the recipe's own.")
@click.option("--features", metavar="FILE", type=PATH, help="Instance features, for IC-GAN.")
@click.option("--truncation", type=float, help="The generator's own: psi of StyleGAN2.  [default: the recipe's]")
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
