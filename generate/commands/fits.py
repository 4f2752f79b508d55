"""What is learned: ``fit-gan``, and through a frozen generator ``fit-steer``, ``fit-navigator``, ``fit-filter``; measures."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.errors import ConfigError
from genrep.settings import configured, from_options, options

from ..fits.config import CompareConfig, DeltaConfig, FilterConfig, NavigatorConfig, SteerConfig
from ..gan.config import FitGanConfig, MeasureGanConfig
from .dataset import DRY_RUN

FIRST = ("gen", "weights", "features", "truncation", "out")  # of fit-navigator's options, before --preset


@click.command("fit-steer")
@configured(SteerConfig, dry_run=DRY_RUN)
def fit_steer_command(config: SteerConfig) -> None:
    """Learn walks w with G(z + alpha w) close to T(G(z), alpha), for shift, zoom, turn and colour (GenRep section 3.2).

    Ends with a picture of the walks and a measurement of their effects. The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-generate fit-steer --gen stylegan2_fashion --lr 0.003 --samples 48000 --out runs/steer
      genrep-generate dataset --views steered:walks=runs/steer/walks.safetensors --out shards
    """
    from ..fits.steering import fit_steer

    result = fit_steer(config)
    say(f"walks          {result.path}")
    say(f"picture        {result.sheet}")
    for curve in result.curves:
        say(f"{curve.name:14} {'rises with alpha' if curve.rises else 'does not rise throughout'}")
    say_leftovers([config.out / "checkpoint.pt"])


@click.command("fit-navigator")
@options(NavigatorConfig, *FIRST, defaults=False)
@click.option(
    "--preset", metavar="cop-gen|hl", default="cop-gen", show_default=True, help="Whose settings to begin with."
)
@options(NavigatorConfig, without=FIRST, defaults=False)
@click.option("--dry-run", is_flag=True, help=DRY_RUN)
def fit_navigator_command(preset: str, dry_run: bool, **values: Any) -> None:
    """Learn a latent view T adversarially: f estimates mutual information, T lowers it (COP-Gen; HL).

    Options that are not given are the preset's; --dry-run prints them. The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-generate fit-navigator --gen stylegan2_fashion --max-distance 1.5 --samples 30000 --out runs/navigator
      genrep-generate dataset --views navigator:weights=runs/navigator/navigator.safetensors --out shards
    """
    try:
        config = NavigatorConfig.of_preset(preset, **values)
    except ConfigError as error:
        raise click.UsageError(error.in_shell()) from error
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
@options(DeltaConfig)
def measure_delta_command(**values: Any) -> None:
    """How far learned views move a latent: mean and deviation of |T(z)| per chunk (HL, Table 1), as json and plot.

    \b
    Example:
      genrep-generate measure-delta runs/navigator-* --out delta.json
    """
    config = from_options(DeltaConfig, values)
    from ..fits.navigator_measure import measure_delta

    measure_delta(config)
    say(f"written to {config.out} and {config.out.with_suffix('.png')}")


@click.command("compare-navigator")
@configured(CompareConfig)
def compare_navigator_command(config: CompareConfig) -> None:
    """InfoNCE of a run's estimator on positives of T, against random walks of the same length."""
    import json

    from ..fits.navigator_measure import compare_run

    click.echo(json.dumps(compare_run(config), indent=2, sort_keys=True, default=str))


@click.command("fit-filter")
@configured(FilterConfig, dry_run=DRY_RUN)
def fit_filter_command(config: FilterConfig) -> None:
    """Learn to tell real images from generated ones, to keep the more real half of these (HL's discriminator).

    The same command goes on where an earlier one stopped.

    \b
    Example:
      genrep-generate fit-filter --gen stylegan2_fashion --data fashion_mnist --root data --download --out runs/filter
      genrep-generate dataset --filter keep=0.5,weights=runs/filter --out shards
    """
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


@click.command("fit-gan")
@configured(FitGanConfig, dry_run=DRY_RUN)
def fit_gan_command(config: FitGanConfig) -> None:
    """Train a StyleGAN2 on real images; the same command goes on from its last checkpoint.

    \b
    Example:
      genrep-generate fit-gan --data fashion_mnist --root data --download --out runs/gan
    """
    from genrep.images.sets import load_images

    from ..gan.trainer import check_run, fit_gan

    check_run(config)
    data = load_images(config.data, config.root, "train", size=config.size, download=config.download)
    path = fit_gan(config, data)
    say(f"weights        {path}")
    say(f"samples        {sorted(config.out.glob('samples-*.png'))[-1]}")
    say_leftovers([config.out / "checkpoint.pt"], "to go on, or for --init")


@click.command("measure-gan")
@options(MeasureGanConfig)
def measure_gan_command(**values: Any) -> None:
    """Fréchet distance, precision and recall in the features of a small classifier of the real training images."""
    from ..gan.quality import measure_gan

    config = from_options(MeasureGanConfig, values)
    result = measure_gan(config)
    for name in ("frechet", "precision", "recall"):
        say(f"{name:10} generated {result['generated'][name]:.3f}   real test images {result['real_test'][name]:.3f}")
    say(f"written to {config.out}")
