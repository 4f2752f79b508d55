"""``verify``: is a dataset folder what its manifest says?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrep.cli import say
from genrep.option_types import PATH_TEXT, Choice, IntRange

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

if TYPE_CHECKING:
    from ..verify import Problem


@click.command("verify")
@folder_argument
@click.option(
    "--level",
    type=Choice(LEVELS),
    default="bytes",
    show_default=True,
    help="quick: presence, sizes, FFCV tables. bytes: + sha256. full: + decoding, latents, fingerprints.",
)
@jobs_option
@click.option("--partial", is_flag=True, help="Shards that are missing are no problem.")
@report_option
@click.option(
    "--signer",
    metavar="KEY|FILE",
    type=PATH_TEXT,
    help="Require a signature of the manifest by this minisign public key.",
)
@click.option(
    "--regenerate",
    metavar="N",
    type=IntRange(min=1),
    help="With --level full: make N pairs again and compare. The options below are for this alone.",
)
@click.option(
    "--sample-seed", metavar="S", type=IntRange(min=0), help="Which pairs those are.  [default: unforeseeable]"
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
    from genrep.errors import DatasetError, GenRepError
    from genrep.untrusted import printable

    from ..recovery.sample import SampleConfig, compare_sample
    from ..strays import clutter
    from ..verify import Problem, verify

    making = making_config(options)
    count, seed, partial, signer = (options[name] for name in ("regenerate", "sample_seed", "partial", "signer"))
    if count and level != "full":
        raise click.UsageError(f"--regenerate {count}: goes with --level full")
    started = time.monotonic()
    with ProgressBar(f"verifying {folder.name}") as bar:
        problems = verify(folder, level, bar.report, jobs=jobs or cores(), partial=partial)
    signed = None if signer is None else _check_signature(folder, signer, problems)
    sample, failure = None, None
    if count and not problems:
        try:
            sample = compare_sample(SampleConfig(folder=folder, count=count, seed=seed, making=making))
            problems += sample.problems
        except GenRepError as error:
            failure = error
    remarks = clutter(folder) if folder.is_dir() else []
    seconds = time.monotonic() - started
    if report is not None:
        told = problems if failure is None else [Problem(shard=None, reason=str(failure))]
        facts = {"folder": str(folder), "level": level, "partial": partial, "seconds": round(seconds, 3)}
        facts["remarks"] = remarks
        _write_report(
            report,
            told,
            {**facts, "signer": signed, "sample": None if sample is None else sample.to_json()},
        )
    if failure is not None:
        raise failure
    for problem in problems:
        say(printable(str(problem)))
    if problems:
        raise DatasetError(f"{folder}: {len(problems)} problem{'s' if len(problems) > 1 else ''} at level {level}")
    if sample is not None:
        say(f"made again {sample}")
    if remarks:
        say(f"remark: {printable(', '.join(remarks))}: left by a file manager, no part of the dataset")
    _say_ok(folder, level + (", signed" if signer is not None else ""), partial, seconds)


def _check_signature(folder: Path, signer: str, problems: list[Problem]) -> dict[str, Any]:
    """What the report says of the signature; a fault is added to ``problems``."""
    from genrep.errors import GenRepError

    from ..signing import verify_signature
    from ..verify import Problem

    fault = None
    try:
        verify_signature(folder, signer)
    except GenRepError as error:
        fault = str(error)
        if not any(problem.reason.startswith(fault) for problem in problems):  # a manifest that cannot be read
            problems.append(Problem(shard=None, reason=fault))
    return {"key": signer, "ok": fault is None}


def _write_report(path: Path, problems: list[Problem], facts: dict[str, Any]) -> None:
    from genrep.files import write_json

    told = [{"shard": problem.shard, "reason": problem.reason} for problem in problems]
    write_json(path, {**facts, "ok": not problems, "problems": told})


def _say_ok(folder: Path, level: str, partial: bool, seconds: float) -> None:
    from ..manifest import read_manifest

    manifest = read_manifest(folder)
    shards = [shard for shard in manifest.shards if not partial or (folder / shard.name).exists()]
    pairs, size = sum(shard.count for shard in shards), sum(shard.bytes for shard in shards)
    part = f" of {len(manifest.shards)}" if len(shards) < len(manifest.shards) else ""
    say(f"OK {folder}: {pairs:,} pairs in {len(shards)}{part} shards, {size:,} bytes, level {level}, {seconds:.1f} s")
