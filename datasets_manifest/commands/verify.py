"""``verify``: is a dataset folder what its manifest says?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .options import (
    LEVELS,
    ProgressBar,
    cores,
    folder_argument,
    jobs_option,
    making_config,
    making_options,
    report_option,
)


@click.command("verify")
@folder_argument
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="bytes",
    show_default=True,
    help="quick: presence, sizes, FFCV tables. bytes: + sha256. full: + decoding, latents, fingerprints.",
)
@jobs_option
@click.option("--partial", is_flag=True, help="Shards that are missing are no problem.")
@report_option
@click.option("--signer", metavar="KEY|FILE", help="Require a signature of the manifest by this minisign public key.")
@click.option(
    "--regenerate",
    metavar="N",
    type=click.IntRange(min=1),
    help="With --level full: make N pairs again and compare. The options below are for this alone.",
)
@click.option(
    "--sample-seed", metavar="S", type=click.IntRange(min=0), help="Which pairs those are.  [default: unforeseeable]"
)
@making_options
def command(folder: Path, level: str, jobs: int | None, report: Path | None, **options: Any) -> None:
    """Check the dataset in DIR against its manifest.

    Prints a line per problem and exits with 1 if there is one. Safe on folders that come from strangers.

    \b
    Example:
      genrep-manifest verify shards/
      genrep-manifest verify shards/ --level full --regenerate 20
    """
    from genrep.errors import DatasetError
    from genrep.files import write_json

    from ..recovery.sample import SampleConfig, compare_sample
    from ..regular import printable
    from ..verify import verify

    making = making_config(options)
    count, seed, partial = options["regenerate"], options["sample_seed"], options["partial"]
    if count and level != "full":
        raise click.UsageError(f"--regenerate {count}: goes with --level full")
    started = time.monotonic()
    with ProgressBar(f"verifying {folder.name}") as bar:
        problems = verify(folder, level, bar.report, jobs=jobs or cores(), partial=partial)
    sample = None
    if count and not problems:
        sample = compare_sample(SampleConfig(folder=folder, count=count, seed=seed, making=making))
        problems += sample.problems
    seconds = time.monotonic() - started
    if report is not None:
        told = [{"shard": problem.shard, "reason": problem.reason} for problem in problems]
        facts: dict[str, Any] = {"folder": str(folder), "level": level, "seconds": round(seconds, 3), "problems": told}
        facts |= {"ok": not problems, "partial": partial, "sample": None if sample is None else sample.to_json()}
        write_json(report, facts)
    for problem in problems:
        click.echo(printable(str(problem)))
    if problems:
        raise DatasetError(f"{folder}: {len(problems)} problem{'s' if len(problems) > 1 else ''} at level {level}")
    if options["signer"] is not None:
        from ..signing import verify_signature

        verify_signature(folder, options["signer"])
    if sample is not None:
        click.echo(f"made again {sample}")
    _say_ok(folder, level + (", signed" if options["signer"] is not None else ""), partial, seconds)


def _say_ok(folder: Path, level: str, partial: bool, seconds: float) -> None:
    from ..manifest import read_manifest

    manifest = read_manifest(folder)
    shards = [shard for shard in manifest.shards if not partial or (folder / shard.name).exists()]
    pairs, size = sum(shard.count for shard in shards), sum(shard.bytes for shard in shards)
    part = f" of {len(manifest.shards)}" if len(shards) < len(manifest.shards) else ""
    click.echo(
        f"OK {folder}: {pairs:,} pairs in {len(shards)}{part} shards, {size:,} bytes, level {level}, {seconds:.1f} s"
    )
