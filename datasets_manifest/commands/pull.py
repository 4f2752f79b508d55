"""``pull``: fetch a dataset."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say
from genrep.option_types import PATH, PATH_TEXT, IntRange

JOBS = click.option("--jobs", metavar="N", type=IntRange(1, 64), default=4, show_default=True, help="Shards at a time.")
TIMEOUT = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="A connection that stands still for so long is given up.",
)
RETRIES = click.option(
    "--retries",
    metavar="N",
    type=IntRange(0, 100),
    default=5,
    show_default=True,
    help="Further attempts after one that got nowhere.",
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the settings and exit.")


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    from ..transport.pull import parse_shards

    try:
        return None if value is None else parse_shards(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("pull")
@click.argument("source", metavar="URL|NAME|DIR", type=PATH_TEXT)
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The folder to fetch it into.")
@click.option("--shards", metavar="0-9,12", callback=_numbers, help="Fetch these shards only.  [default: all]")
@click.option("--digest", metavar="SHA256", help="Refuse a manifest with another digest than this.")
@JOBS
@TIMEOUT
@RETRIES
@DRY_RUN
def command(source: str, dry_run: bool, timeout: float, retries: int, **options: Any) -> None:
    """Fetch a dataset: from http(s)://, hf://datasets/ORG/NAME, s3://, gs://, a folder, or by its name in the catalogue.

    Every shard is checked against the manifest before it gets its name. A fetch that was cut short goes on where it was
    when the command is given again, and what is there already is not fetched again. With --shards the folder holds the
    whole manifest and a part of the shards: genrep-train and genrep-manifest verify take it with --partial.

    \b
    Example:
      genrep-manifest pull https://example.org/shards --out shards
      genrep-manifest pull hf://datasets/org/name --out shards --shards 0-9
    """
    from genrep.net import shown
    from genrep.untrusted import printable

    from ..transport import Limits, PullConfig, pull

    config = PullConfig(source=source, limits=Limits(timeout=timeout, retries=retries), **options)
    if dry_run:
        print_config(replace(config, source=shown(source)))
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
