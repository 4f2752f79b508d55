"""``repair``: the bad and missing shards of a dataset, made or fetched again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say
from genrep.option_types import PATH_TEXT, Choice

from .options import LEVELS, cores, folder_argument, jobs_option, making_config, making_options, report_option


@click.command("repair")
@folder_argument
@click.option(
    "--from", "source", metavar="URL|DIR", type=PATH_TEXT, help="Fetch the shards there.  [default: make them again]"
)
@click.option("--level", type=Choice(LEVELS), default="bytes", show_default=True, help="Of the check that finds them.")
@click.option(
    "--accept-fingerprints",
    is_flag=True,
    help="Take a shard with the same latents and fingerprint but other bytes, and say so in the manifest.",
)
@jobs_option
@report_option
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
@making_options
def command(folder: Path, jobs: int | None, report: Path | None, dry_run: bool, **options: Any) -> None:
    """Make or fetch bad and missing shards again.

    Exactly these, to the sha256 that the manifest of the dataset in DIR states. A shard that comes out with other
    bytes, as on another kind of device, is not taken and the exit status is 1. With --accept-fingerprints it is,
    if it holds the same images within rounding; the manifest's digest then changes, the dataset's id does not.
    Nothing else in DIR is touched.

    \b
    Example:
      genrep-manifest repair shards/
      genrep-manifest repair shards/ --from https://example.org/shards
    """
    from ..recovery.repair import RepairConfig, repair

    making = making_config(options)
    config = RepairConfig(folder=folder, jobs=jobs or cores(), making=making, **options)
    if dry_run:
        print_config(config)
        return
    from genrep.errors import DatasetError
    from genrep.files import write_json
    from genrep.untrusted import printable

    found = repair(config)
    if report is not None:
        write_json(report, found.to_json())
    for line in found.lines():
        say(printable(line))
    if left := len(found.left):
        raise DatasetError(f"{folder}: {left} problem{'s' if left > 1 else ''} left")
