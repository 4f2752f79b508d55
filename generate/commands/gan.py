"""``fit-gan`` and ``measure-gan``: a StyleGAN2 of one's own."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import say, say_leftovers
from genrep.settings import configured, from_options, options

from ..gan.config import FitGanConfig, MeasureGanConfig
from .dataset import DRY_RUN


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
