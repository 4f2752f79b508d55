"""The verbs that send and fetch datasets: ``pull`` and ``push``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say
from genrep.net import Limits, shown
from genrep.option_types import IntRange
from genrep.settings import from_options, options
from genrep.untrusted import printable

from ..transport import PullConfig, PushConfig, pull, push
from . import DRY_RUN

TIMEOUT = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(1, 3600),
    default=Limits.timeout,
    show_default=True,
    help="A connection that stands still for so long is given up.",
)
RETRIES = click.option(
    "--retries",
    metavar="N",
    type=IntRange(0, 100),
    default=Limits.retries,
    show_default=True,
    help="Further attempts after one that got nowhere.",
)


@click.command("pull")
@options(PullConfig)
@TIMEOUT
@RETRIES
@DRY_RUN
def pull_command(dry_run: bool, timeout: float, retries: int, **values: Any) -> None:
    """Fetch a dataset: from http(s)://, hf://datasets/ORG/NAME, s3://, gs://, a folder, or by its name in the catalogue.

    Every shard is checked against the manifest before it gets its name. A fetch that was cut short goes on where it was
    when the command is given again, and what is there already is not fetched again. With --shards the folder holds the
    whole manifest and a part of the shards: genrep-train and genrep-manifest verify take it with --partial.

    \b
    Example:
      genrep-manifest pull https://example.org/shards --out shards
      genrep-manifest pull hf://datasets/org/name --out shards --shards 0-9
    """

    config = from_options(PullConfig, {**values, "limits": Limits(timeout=timeout, retries=retries)})
    if dry_run:
        print_config(replace(config, source=shown(config.source)))
        return
    started = time.monotonic()
    report = pull(config)
    for line in report.left_out:
        say(f"not taken: {printable(line)}", err=True)
    tell(config.out, report.shards, len(report.manifest.shards), report.kept, report.fetched, "fetched", started)


def tell(where: Path | str, shards: int, of: int, kept: int, size: int, verb: str, started: float) -> None:
    """The last line of a command that went well."""
    part = f" of {of}" if shards < of else ""
    there = f", {kept} were there" if kept else ""
    say(f"OK {where}: {shards}{part} shards{there}, {size:,} bytes {verb} in {time.monotonic() - started:.1f} s")


@click.command("push")
@options(PushConfig)
@TIMEOUT
@RETRIES
@DRY_RUN
def push_command(dry_run: bool, timeout: float, retries: int, **values: Any) -> None:
    """Send the dataset in DIR to a folder, to hf://datasets/ORG/NAME, or to s3://, gs://, ... (pip install 'genrep[cloud]').

    Shards go first and the manifest last. What is there already is not sent again; another dataset is never written over.
    Credentials are found as the store's own tools find them. A repository that does not exist yet is made, private.

    \b
    Example:
      genrep-manifest push shards/ s3://bucket/shards
      genrep-manifest push shards/ hf://datasets/org/name
    """

    config = from_options(PushConfig, {**values, "limits": Limits(timeout=timeout, retries=retries)})
    if dry_run:
        print_config(replace(config, target=shown(config.target)))
        return
    started = time.monotonic()
    report = push(config)
    for line in report.warnings:
        say(f"note: {line}", err=True)
    if report.left_out:
        say(f"not sent: {printable(', '.join(report.left_out))}", err=True)
    shards = len(report.manifest.shards)
    tell(shown(config.target), shards, shards, report.kept, report.sent, "sent", started)
