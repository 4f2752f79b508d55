"""``dataset``: build pairs of anchor and positive from a generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrep.cli import print_config, say
from genrep.option_types import PATH, PATH_TEXT, IntRange, whole_number

if TYPE_CHECKING:
    from ..build import BuildReport
    from ..build.estimate import Estimate

MAX_BATCH_SIZE = 1_000_000


@click.command()
@click.option(
    "--gen",
    metavar="NAME|FILE.toml|MODULE:FACTORY",
    type=PATH_TEXT,
    default="stylegan2_fashion",
    show_default=True,
    help="The generator.",
)
@click.option(
    "--weights", metavar="FILE[#NETWORK]", type=PATH_TEXT, help="Weights to read instead of the recipe's own."
)
@click.option(
    "--features",
    metavar="FILE",
    type=PATH_TEXT,
    help="Instance features (and labels) for IC-GAN: .npz, .npy, .safetensors.",
)
@click.option(
    "--classes",
    metavar="all|0-99|PRESET|FILE",
    type=PATH_TEXT,
    default="all",
    show_default=True,
    help="Classes of a class-conditional generator, taken in turn; imagenet100 is a preset.",
)
@click.option("--truncation", type=float, help="The generator's own: psi of StyleGAN2.  [default: the recipe's]")
@click.option(
    "--views",
    metavar="NAME:KEY=VALUE,...",
    type=PATH_TEXT,
    help="Latent view of the positives.  [default: the recipe's]",
)
@click.option(
    "--filter",
    metavar="keep=PART,weights=FILE",
    type=PATH_TEXT,
    help="Keep this part of the candidates, the best to fit-filter's taste.",
)
@click.option(
    "--num-pairs",
    metavar="PAIRS",
    type=IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Size of the dataset.",
)
@click.option(
    "--num-positives",
    metavar="K",
    type=IntRange(1, 64),
    default=1,
    show_default=True,
    help="Positives per anchor.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    default=Path("shards"),
    show_default=True,
    help="The dataset's folder.",
)
@click.option("--seed", type=IntRange(min=0), default=0, show_default=True, help="Of the latents.")
@click.option(
    "--shard-size",
    metavar="PAIRS|BYTES",
    help="e.g. 4096 or 512MB.  [default: at least 16 shards, at most 512 MB each]",
)
@click.option(
    "--encoding", metavar="raw|jpeg:Q[:444]", help="Of the images.  [default: raw up to 64 pixels, jpeg:90:444 above]"
)
@click.option(
    "--batch-size",
    metavar="auto|IMAGES",
    default="auto",
    show_default=True,
    help="Images per forward pass; auto halves it until they fit the memory.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--processes", type=IntRange(min=1), help="Shards built at a time.  [default: one per core, one on a GPU]"
)
@click.option("--threads", type=IntRange(min=1), default=1, show_default=True, help="CPU threads of each process.")
@click.option(
    "--encoders",
    type=IntRange(min=0),
    help="Processes that encode and write beside the one that generates.  [default: none; on a GPU up to 8]",
)
@click.option("--part", metavar="K/N", help="Build only the shards i = K mod N: for array jobs, in one folder.")
@click.option(
    "--plan",
    "show_plan",
    is_flag=True,
    help="Print shards, bytes and an estimated time, after ten seconds of the real pipeline, and exit.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def dataset(dry_run: bool, show_plan: bool, **options: Any) -> None:
    """Build a dataset: FFCV shards, a record of each, and manifest.json.

    The same command goes on where an earlier one stopped; with other options it refuses.

    \b
    Example:
      genrep-generate dataset --gen stylegan2_fashion --views gaussian:std=.2,truncation=2 --out shards
    """
    from ..plans.config import BuildConfig

    config = BuildConfig(**{**options, "batch_size": _batch_size(options["batch_size"])})
    if dry_run:
        print_config(config)
        return
    from ..build import build_dataset, plan_dataset

    if show_plan:
        _show_estimate(plan_dataset(config))
        return
    show_build(build_dataset(config))


def show_build(report: BuildReport, unit: str = "pair") -> None:
    """Say what a build did, in pairs or images."""
    say(f"folder         {report.folder}")
    if report.built_pairs:
        rate = report.built_pairs / report.seconds
        say(f"speed          {rate:.0f} {unit}s/s ({report.built_pairs} built in {report.seconds:.1f} s)")
    manifest = report.manifest
    if manifest is None:
        say(
            f"shards         {report.done_shards} of {report.num_shards} done; the rest is of other parts or processes, "
            "and the last to finish writes the manifest"
        )
        return
    size = manifest.num_bytes
    found = "" if report.built_pairs else ", found complete: nothing to do"
    say(f"{unit + 's':15}{manifest.num_pairs} in {len(manifest.shards)} shards{found}")
    say(f"bytes          {size} ({size / manifest.num_pairs:.0f} per {unit})")
    say(f"contact sheet  {report.sheet}")


def _show_estimate(estimate: Estimate) -> None:
    minutes = estimate.seconds / 60
    time = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    say(f"pairs          {estimate.num_pairs}")
    say(f"shards         {estimate.num_shards} of {estimate.pairs_per_shard} pairs")
    say(f"bytes          about {estimate.bytes} ({estimate.bytes / estimate.num_pairs:.0f} per pair)")
    say(f"time           about {time} here ({estimate.pairs_per_s:.1f} pairs/s)")


def _batch_size(text: str) -> int | None:
    """The number, or None for ``auto``."""
    if text == "auto":
        return None
    try:
        number = whole_number(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_BATCH_SIZE:
        raise click.BadParameter(f"{text!r} is neither auto nor 1 to {MAX_BATCH_SIZE}", param_hint="--batch-size")
    return number
