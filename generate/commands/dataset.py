"""``dataset`` and ``from-folder``: pairs from a generator, or real images, become shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from genrep.cli import tell
from genrep.settings import configured

from ..plans.config import BuildConfig, FolderConfig

if TYPE_CHECKING:
    from ..build import BuildReport
    from ..build.dataset import BuildEstimate

DRY_RUN = "Print the settings and exit."


@click.command()
@configured(
    BuildConfig,
    more=[
        click.option(
            "--plan",
            "show_plan",
            is_flag=True,
            help="Run the real pipeline for ten seconds, print the shards, bytes and time to expect, and exit.",
        )
    ],
    dry_run=DRY_RUN,
)
def dataset(config: BuildConfig, show_plan: bool) -> None:
    """Build a dataset of anchor/positive pairs from a generator.

    Writes FFCV shards, a record of each, and manifest.json. The same command resumes an interrupted build; different
    options in the same folder are refused.

    \b
    Example:
      genrep-generate dataset --gen stylegan2_fashion --views gaussian:std=.2,truncation=2 --out shards
    """
    from ..build import build_dataset, plan_dataset

    if show_plan:
        _show_estimate(plan_dataset(config))
        return
    show_build(build_dataset(config))


@click.command("from-folder")
@configured(FolderConfig, dry_run=DRY_RUN)
def from_folder(config: FolderConfig) -> None:
    """Build a dataset from real images.

    DIR is an image folder, with one subfolder per class or none. NAME is fashion_mnist, mnist, cifar10, cifar100, imagenet or
    imagenet100 (the papers' 100 classes, read from ROOT/imagenet100 or ROOT/imagenet).

    Writes FFCV shards that hold anchors only, and manifest.json. Unreadable images are skipped, counted and listed in
    unreadable.jsonl. The same command resumes an interrupted build.

    \b
    Example:
      genrep-generate from-folder imagenet/ --split train --shorter-side 256 --out shards-real
      genrep-generate from-folder lsun-cars/ --size 384x512 --out shards-cars
      genrep-generate from-folder fashion_mnist --root data --download --out shards-real
    """
    from ..build.from_folder import build_from_folder

    show_build(build_from_folder(config), "image")


def show_build(report: BuildReport, unit: str = "pair") -> None:
    """Print what a build did, in pairs or images."""
    manifest = report.manifest
    facts = {
        "folder": report.folder,
        "finished": manifest is not None,
        "built": report.built_pairs,
        "seconds": report.seconds,
        "done_shards": report.done_shards,
        "num_shards": report.num_shards,
    }
    if manifest is not None:
        facts |= {"id": manifest.id, "digest": manifest.digest, "num_pairs": manifest.num_pairs}
        facts |= {"bytes": manifest.num_bytes, "sheet": report.sheet}
    tell(facts, _build_lines(report, unit))


def _build_lines(report: BuildReport, unit: str) -> Iterator[str]:
    yield f"folder         {report.folder}"
    if report.built_pairs:
        rate = report.built_pairs / report.seconds
        yield f"speed          {rate:.0f} {unit}s/s ({report.built_pairs} built in {report.seconds:.1f} s)"
    manifest = report.manifest
    if manifest is None:
        yield (
            f"shards         {report.done_shards} of {report.num_shards} done; the others belong to other parts or "
            "processes, and the last to finish writes the manifest"
        )
        return
    size = manifest.num_bytes
    found = "" if report.built_pairs else ", already complete: nothing to do"
    yield f"{unit + 's':15}{manifest.num_pairs} in {len(manifest.shards)} shards{found}"
    yield f"bytes          {size} ({size / manifest.num_pairs:.0f} per {unit})"
    yield f"contact sheet  {report.sheet}"


def _show_estimate(estimate: BuildEstimate) -> None:
    minutes = estimate.seconds / 60
    time = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    tell(
        {**vars(estimate), "seconds": estimate.seconds},
        [
            f"pairs          {estimate.num_pairs}",
            f"shards         {estimate.num_shards} of {estimate.pairs_per_shard} pairs",
            f"bytes          about {estimate.bytes} ({estimate.bytes / estimate.num_pairs:.0f} per pair)",
            f"time           about {time} here ({estimate.pairs_per_s:.1f} pairs/s)",
        ],
    )
