"""``fit-gan`` and ``measure-gan``: a StyleGAN2 of one's own."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, say_leftovers
from genrep.option_types import PATH, PATH_TEXT, Choice, IntRange

from .options import root_options


@click.command("fit-gan")
@click.option(
    "--data", metavar="NAME|DIR", type=PATH_TEXT, required=True, help="fashion_mnist, cifar10, or an image folder."
)
@root_options
@click.option(
    "--size", metavar="PIXELS", type=IntRange(min=4), help="Crop and resize an image folder's images to this."
)
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The run's folder.")
@click.option("--classes/--no-classes", default=False, show_default=True, help="Train a class-conditional network.")
@click.option(
    "--total-images",
    metavar="N",
    type=IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Length of training.",
)
@click.option("--batch-size", type=IntRange(min=4), default=64, show_default=True, help="Images per step.")
@click.option("--z-dim", type=IntRange(min=1), default=128, show_default=True, help="Size of the latent.")
@click.option("--w-dim", type=IntRange(min=1), default=128, show_default=True, help="Size of the mapped latent.")
@click.option("--mapping-layers", type=IntRange(min=1), default=2, show_default=True, help="Of the mapping network.")
@click.option(
    "--channel-base",
    type=IntRange(min=1),
    default=512,
    show_default=True,
    help="Channels are min(base / resolution, max).",
)
@click.option("--channel-max", type=IntRange(min=1), default=128, show_default=True, help="See --channel-base.")
@click.option(
    "--lr", type=click.FloatRange(min=0, min_open=True), default=0.0025, show_default=True, help="Learning rate."
)
@click.option("--r1-gamma", type=click.FloatRange(min=0), default=0.02, show_default=True, help="Weight of R1.")
@click.option(
    "--style-mixing",
    metavar="PROBABILITY",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Of two latents in one image.",
)
@click.option(
    "--augment",
    type=Choice(["none", "ada"]),
    default="none",
    show_default=True,
    help="Adaptive augmentation for small sets.",
)
@click.option(
    "--init",
    metavar="FILE",
    type=PATH,
    help="checkpoint.pt of another run to start from, where names and shapes agree.",
)
@click.option("--mirror", is_flag=True, help="Add mirrored images.")
@click.option(
    "--precision",
    type=Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of activations.",
)
@click.option(
    "--compile", is_flag=True, help="Use torch.compile (a minute to start, about 1.2 times the speed on a CPU)."
)
@click.option("--seed", type=IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--snapshot-images",
    metavar="N",
    type=IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Checkpoint and sample sheet every N.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def fit_gan_command(dry_run: bool, **options: Any) -> None:
    """Train a StyleGAN2 on real images; the same command goes on from its last checkpoint.

    \b
    Example:
      genrep-generate fit-gan --data fashion_mnist --root data --download --out runs/gan
    """
    from ..gan.config import FitGanConfig

    if dry_run:
        print_config(FitGanConfig(**options))
        return
    from genrep.devices import pick_device
    from genrep.images.sets import load_images

    from ..gan.config import check_run
    from ..gan.trainer import fit_gan

    config = FitGanConfig(**{**options, "device": str(pick_device(options["device"]))})
    check_run(config)
    data = load_images(config.data, config.root, "train", size=config.size, download=config.download)
    path = fit_gan(config, data)
    say(f"weights        {path}")
    say(f"samples        {sorted(config.out.glob('samples-*.png'))[-1]}")
    say_leftovers([config.out / "checkpoint.pt"], "to go on, or for --init")


@click.command("measure-gan")
@click.option(
    "--weights",
    metavar="FILE",
    type=PATH,
    required=True,
    help="generator.safetensors of a fit-gan run.",
)
@click.option(
    "--data", metavar="NAME|DIR", type=PATH_TEXT, required=True, help="The dataset that the generator was trained on."
)
@root_options
@click.option("--out", metavar="FILE.json", type=PATH, required=True, help="The result.")
@click.option(
    "--num-images", metavar="N", type=IntRange(min=100), default=10_000, show_default=True, help="Of each kind."
)
@click.option("--seed", type=IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def measure_gan_command(device: str, **options: Any) -> None:
    """Fréchet distance, precision and recall in the features of a small classifier of the real training images."""
    from genrep.devices import pick_device

    from ..gan.quality import measure_gan

    result = measure_gan(device=str(pick_device(device)), **options)
    for name in ("frechet", "precision", "recall"):
        say(f"{name:10} generated {result['generated'][name]:.3f}   real test images {result['real_test'][name]:.3f}")
    say(f"written to {options['out']}")
