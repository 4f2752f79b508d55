"""``rebuild``: a whole dataset, made again from its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.across import RegenerationConfig
from genrep.cli import print_config, say
from genrep.settings import from_options, options

from ..recovery.rebuild import RebuildConfig
from .options import REPORT
from .pull import DRY_RUN


@click.command("rebuild")
@options(RebuildConfig)
@REPORT
@DRY_RUN
@options(RegenerationConfig)
def command(report: Path | None, dry_run: bool, **values: Any) -> None:
    """Make a dataset again from its manifest.

    From the recipe and the generator's weights, on any machine. At the end it says how much the two are the same:

    \b
      bytes         every file is the same, and so is the manifest
      fingerprints  the same latents; the images agree with the manifest's thumbnails up to a device's rounding
      latents       the same latents; the manifest holds nothing to compare the images with

    Latents that differ, or images that do not agree, are an error. The same command goes on where an earlier one
    stopped. Code is not run on a manifest's word: for a generator that is a module, give --gen.

    \b
    Example:
      genrep-manifest rebuild manifest.json --out shards
    """
    from genrep.files import write_json

    from ..recovery.rebuild import rebuild

    config = from_options(RebuildConfig, {**values, "making": from_options(RegenerationConfig, values)})
    if dry_run:
        print_config(config)
        return
    found = rebuild(config)
    if report is not None:
        write_json(report, found.to_json())
    for line in found.lines():
        say(line)
