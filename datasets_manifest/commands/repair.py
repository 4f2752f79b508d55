"""``repair``: the bad and missing shards of a dataset, made or fetched again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.across import RegenerationConfig
from genrep.cli import print_config, say
from genrep.settings import from_options, options

from ..recovery.repair import RepairConfig
from ..verify import cores
from .options import REPORT
from .pull import DRY_RUN


@click.command("repair")
@options(RepairConfig)
@REPORT
@DRY_RUN
@options(RegenerationConfig)
def command(report: Path | None, dry_run: bool, **values: Any) -> None:
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
    from genrep.errors import DatasetError
    from genrep.files import write_json
    from genrep.untrusted import printable

    from ..recovery.repair import repair

    making = from_options(RegenerationConfig, values)
    config = from_options(RepairConfig, {**values, "making": making, "jobs": values["jobs"] or cores()})
    if dry_run:
        print_config(config)
        return
    found = repair(config)
    if report is not None:
        write_json(report, found.to_json())
    for line in found.lines():
        say(printable(line))
    if left := len(found.left):
        raise DatasetError(f"{config.folder}: {left} problem{'s' if left > 1 else ''} left")
