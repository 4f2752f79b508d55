"""``fit-steer``: directions in latent space that shift, zoom, turn and colour images."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.option_types import PATH, PATH_TEXT, WHOLE


@click.command("fit-steer")
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
