"""``from-folder``: real images as shards of the same contract."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config
from genrep.option_types import PATH, PATH_TEXT, WHOLE, Choice, IntRange

from .dataset import show_build
from .root import root_options


@click.command("from-folder")
@click.argument("data", metavar="DIR|NAME", type=PATH_TEXT)
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The dataset's folder.")
@root_options
@click.option("--split", type=Choice(["train", "test"]), default="train", show_default=True)
@click.option(
    "--size",
    metavar="PIXELS|HxW",
    help="Of the stored images, one for all.  [default: that of the files, if all have one]",
)
@click.option(
    "--shorter-side",
    metavar="PIXELS",
    type=WHOLE,
    help="Store whole images in their own shapes, resized so that the shorter side has this many pixels; smaller images stay "
    "as they are. Training then takes its random crops from the whole picture.",
)
@click.option(
    "--crop",
    type=Choice(["center", "none"]),
    default="center",
    show_default=True,
    help="With --size: the largest central part of that shape, or the whole image, stretched.",
)
@click.option("--encoding", metavar="raw|jpeg:Q[:444]", help="[default: raw up to 64 pixels, jpeg:90:444 above]")
@click.option("--shard-size", metavar="IMAGES|BYTES", help="[default: at least 16 shards, at most 512 MB each]")
@click.option("--strict", is_flag=True, help="An unreadable image is an error, not a line in unreadable.jsonl.")
@click.option("--processes", type=IntRange(min=1), help="[default: one per core]")
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def from_folder(dry_run: bool, **options: Any) -> None:
    """Build a dataset of the real images in DIR (a subfolder a class, or bare images) or of NAME: fashion_mnist, mnist,
    cifar10, cifar100, imagenet, imagenet100 (the papers' 100 classes, of ROOT/imagenet100 or ROOT/imagenet).

    The same command goes on where an earlier one stopped. Unreadable images are named, counted and skipped.

    \b
    Example:
      genrep-generate from-folder imagenet/ --split train --shorter-side 256 --out shards-real
      genrep-generate from-folder lsun-cars/ --size 384x512 --out shards-cars
      genrep-generate from-folder fashion_mnist --root data --download --out shards-real
    """
    from ..build.from_folder_config import FolderConfig

    config = FolderConfig(**options)
    if dry_run:
        print_config(config)
        return
    from ..build.from_folder import build_from_folder

    show_build(build_from_folder(config), "image")
