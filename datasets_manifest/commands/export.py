"""``export``: a dataset in other formats."""

from __future__ import annotations

import time

import click

from genrep.cli import say
from genrep.settings import configured

from ..exporting import ExportConfig, export


@click.command("export")
@configured(ExportConfig, dry_run="Print the settings and exit.")
def command(config: ExportConfig) -> None:
    """Write the dataset in DIR for users without FFCV.

    \b
      folder      anchor/00000/00000000.png, ...; metadata.jsonl; z_anchor.npy, ... with a row per sample
      webdataset  tar files of 00000000.anchor.png, 00000000.z_anchor.npy, 00000000.json, ...
      parquet     as Hugging Face's datasets reads it (pip install 'genrep[parquet]')

    JPEG images are copied as they are stored, others become PNG: no pixel changes. The same command goes on where an
    earlier one stopped. Shards' tables are checked, not their sha256: verify a stranger's dataset first.

    \b
    Example:
      genrep-manifest export shards/ --format webdataset --out tars
    """
    started = time.monotonic()
    report = export(config)
    there = report.pairs - report.written_pairs
    before = f", {there:,} were there" if there else ""
    files = f"{report.files:,} file{'s' if report.files != 1 else ''}"
    say(f"OK {config.out}: {report.pairs:,} pairs in {files}{before}, {time.monotonic() - started:.1f} s")
