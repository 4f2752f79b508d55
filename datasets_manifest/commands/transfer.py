"""The commands that send and fetch datasets: ``pull`` and ``push``."""

from __future__ import annotations

import time
from typing import Any

import click

from genrep.cli import print_config, tell
from genrep.net import shown
from genrep.progress import note
from genrep.settings import from_options, options
from genrep.untrusted import printable

from ..manifest import Manifest
from ..transport import PullConfig, PushConfig, pull, push
from ..transport.pull import TransferLimits
from . import DRY_RUN


@click.command("pull")
@options(PullConfig)
@options(TransferLimits)
@DRY_RUN
def pull_command(dry_run: bool, **values: Any) -> None:
    """Fetch a dataset.

    The source is an http(s)://, hf://datasets/ORG/NAME, s3:// or gs:// address, a folder, or a name in the catalogue. Every
    shard is checked against the manifest before it gets its final name. The same command resumes an interrupted fetch and
    skips the shards that are already there. With --shards, the folder holds the whole manifest but only some shards:
    genrep-train and genrep-manifest verify accept it with --partial.

    \b
    Example:
      genrep-manifest pull https://example.org/shards --out shards
      genrep-manifest pull hf://datasets/org/name --out shards --shards 0-9
    """

    config = from_options(PullConfig, {**values, "limits": from_options(TransferLimits, values)})
    if dry_run:
        print_config({**vars(config), "source": shown(config.source), "limits": vars(config.limits)})
        return
    started = time.monotonic()
    report = pull(config)
    for line in report.left_out:
        note(f"not taken: {printable(line)}")
    facts = {"folder": config.out, "shards": report.shards, "kept": report.kept, "bytes": report.fetched}
    _tell(facts, report.manifest, "fetched", time.monotonic() - started, report.left_out)


def _tell(facts: dict[str, Any], manifest: Manifest, verb: str, seconds: float, left_out: tuple[str, ...]) -> None:
    """Print the result of a command that succeeded; the first of ``facts`` is where the dataset is now."""
    where, of, shards, kept = next(iter(facts.values())), len(manifest.shards), facts["shards"], facts["kept"]
    part = f" of {of}" if shards < of else ""
    there = f", {kept} were there" if kept else ""
    tell(
        {
            **facts,
            "num_shards": of,
            "id": manifest.id,
            "digest": manifest.digest,
            "left_out": left_out,
            "seconds": seconds,
        },
        f"OK {where}: {shards}{part} shards{there}, {facts['bytes']:,} bytes {verb} in {seconds:.1f} s",
    )


@click.command("push")
@options(PushConfig)
@options(TransferLimits)
@DRY_RUN
def push_command(dry_run: bool, **values: Any) -> None:
    """Publish the dataset in DIR.

    The target is a folder, hf://datasets/ORG/NAME, or an address such as s3:// or gs://. Shards are sent first and the manifest
    last. Shards that are already there are not sent again, and another dataset is never overwritten. Credentials are found the
    way the store's own tools find them. A Hugging Face repository that does not exist yet is created as private.

    \b
    Example:
      genrep-manifest push shards/ s3://bucket/shards
      genrep-manifest push shards/ hf://datasets/org/name
    """

    config = from_options(PushConfig, {**values, "limits": from_options(TransferLimits, values)})
    if dry_run:
        print_config({**vars(config), "target": shown(config.target), "limits": vars(config.limits)})
        return
    started = time.monotonic()
    report = push(config)
    for line in report.warnings:
        note(f"note: {line}")
    if report.left_out:
        note(f"not sent: {printable(', '.join(report.left_out))}")
    facts = {"target": shown(config.target), "shards": len(report.manifest.shards), "kept": report.kept}
    facts |= {"bytes": report.sent, "warnings": report.warnings}
    _tell(facts, report.manifest, "sent", time.monotonic() - started, report.left_out)
