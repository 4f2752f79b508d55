"""``rebuild``: a whole dataset, made again from its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import print_config, say
from genrep.option_types import PATH, PATH_TEXT

from .options import making_config, making_options, report_option


@click.command("rebuild")
@click.argument("source", metavar="MANIFEST|DIR|URL", type=PATH_TEXT)
@click.option("--out", metavar="DIR", type=PATH, required=True, help="The new dataset's folder.")
@report_option
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
@making_options
def command(source: str, out: Path, report: Path | None, dry_run: bool, **options: Any) -> None:
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
    from ..recovery.rebuild import RebuildConfig, rebuild

    config = RebuildConfig(source=source, out=out, making=making_config(options))
    if dry_run:
        print_config(config)
        return
    from genrep.files import write_json

    found = rebuild(config)
    if report is not None:
        write_json(report, found.to_json())
    for line in found.lines():
        say(line)
