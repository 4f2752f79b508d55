"""``export``: a dataset in other formats."""

from __future__ import annotations

import time
from pathlib import Path

import click

from genrep.cli import print_config, say
from genrep.option_types import PATH, Choice, IntRange

from .options import folder_argument

FORMATS = ("folder", "webdataset", "parquet")  # exporting.FORMATS, which is not imported before it is needed


@click.command("export")
@folder_argument
@click.option("--format", "kind", type=Choice(FORMATS), required=True, help="What to write.")
@click.option(
    "--out", metavar="DIR", type=PATH, required=True, help="A folder that is new, empty, or an export cut short."
)
@click.option(
    "--per-file",
    metavar="N",
    type=IntRange(1, 1_000_000_000),
    help="Samples per tar or parquet file, or per subfolder.  [default: about 256 MB; folder: 1000]",
)
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def command(folder: Path, kind: str, out: Path, per_file: int | None, dry_run: bool) -> None:
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
    from ..exporting import ExportConfig, export

    config = ExportConfig(folder=folder, format=kind, out=out, per_file=per_file)
    if dry_run:
        print_config(config)
        return
    started = time.monotonic()
    report = export(config)
    there = report.pairs - report.written_pairs
    before = f", {there:,} were there" if there else ""
    files = f"{report.files:,} file{'s' if report.files != 1 else ''}"
    say(f"OK {out}: {report.pairs:,} pairs in {files}{before}, {time.monotonic() - started:.1f} s")
