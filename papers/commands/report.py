"""``report``: one page of results."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import say
from genrep.option_types import PATH, PATH_TEXT


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]DIR...", type=PATH_TEXT)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder for report.md and report.html.")
@click.option("--title", default="Report", show_default=True, help="Of the page.")
def command(runs: tuple[str, ...], out: Path, title: str) -> None:
    """One page of results beside the published numbers, as Markdown and HTML.

    A DIR holds results, and where it is a training's run, settings and curves as well. A row is named as given, else after
    its folder. Runs with one NAME are one row: the same training from several seeds.

    \b
    Example:
      genrep-evaluate report random=runs/random gaussian=runs/g0 gaussian=runs/g1 --out report
    """
    from ..report import ReportConfig, rows_of, write_report

    try:
        config = ReportConfig(rows=rows_of(runs), out=out, title=title)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    result = write_report(config)
    for note in result.notes:
        say(note, err=True)
    say(
        f"report: {result.markdown}, {result.html}, {len(result.pictures)} plot{'s' if len(result.pictures) != 1 else ''}"
    )
