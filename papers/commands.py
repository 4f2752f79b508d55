"""The command lines of ``reproduce``, ``table`` and ``report``, verbs of ``genrep-evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import say
from genrep.encoders import DEVICES
from genrep.evaluate.settings import seed_numbers
from genrep.option_types import COUNT, PATH, PATH_TEXT, Choice, Parsed
from genrep.progress import note

from .reproduce.specs import SCALES, table_names


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part for part in value.split(",") if part)


def _weights(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in value:
        name, equals, path = text.partition("=")
        if not equals or not Path(path).is_file():
            raise click.BadParameter(f"{text!r}: wanted GENERATOR=FILE of a file that is there", context, parameter)
        found[name] = Path(path)
    return found


def _encoders(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in value:
        name, equals, where = text.partition("=")
        if not equals or not (Path(where).exists() or ":" in where):
            raise click.BadParameter(
                f"{text!r}: wanted NAME=FILE of a file that is there, or NAME=MODULE:FACTORY", context, parameter
            )
        found[name] = where
    return found


@click.command("reproduce")
@click.argument("table", metavar="TABLE", type=Choice(table_names()))
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Gets all data, runs, results and reports.")
@click.option(
    "--scale",
    type=Choice(SCALES),
    default="small",
    show_default=True,
    help="tiny: a test of the machinery; cpu: ten minutes of two cores for a row; small: of a GPU; full: the papers' settings.",
)
@click.option("--rows", callback=_names, default="", metavar="ID[,ID...]", help="Only these.  [default: all]")
@click.option(
    "--seed",
    "--seeds",
    "seeds",
    type=Parsed(seed_numbers),
    metavar="N[,N...]",
    help="Of trainings and evaluations.  [default: 0; cpu, small: 0,1,2]",
)
@click.option("--root", type=PATH, metavar="DIR", help="Where real data lie: named sets, imagenet/, VOCdevkit/, ...")
@click.option("--download", is_flag=True, help="First fetch the named sets that are not under --root.")
@click.option(
    "--weights",
    multiple=True,
    callback=_weights,
    metavar="GENERATOR=FILE",
    type=PATH_TEXT,
    help="A generator's weights instead of its recipe's own.",
)
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    type=PATH_TEXT,
    callback=_encoders,
    metavar="NAME=FILE|MODULE:FACTORY",
    help="An encoder that a row only measures: bigbigan (genrep-table4 at scale full).",
)
@click.option("--device", type=Choice(DEVICES), default="auto", show_default=True, help="auto: GPUs if any.")
@click.option("--jobs", type=COUNT, metavar="N", help="Tasks at a time.  [default: one per GPU; one on a CPU]")
@click.option(
    "--hardware",
    type=PATH_TEXT,
    metavar="a100|h100|FILE",
    help="With --dry-run: tell the times of this hardware; FILE is TOML with measured images/s.  [default: a100 at scale full, "
    "else this machine]",
)
@click.option("--dry-run", is_flag=True, help="Print the plan with estimated times and sizes and exit.")
def reproduce_command(dry_run: bool, **options: Any) -> int:
    """Repeat a table or figure of the papers, and report ours beside the published numbers.

    Each dataset is built and each encoder trained once, however many rows or tables need it. The same command goes on where an
    earlier one stopped; what fails leaves the rest to go on. The report lies in OUT/TABLE-SCALE/.

    \b
    TABLE: genrep-table1 to -table6, genrep-fig5, -fig6, -fig8, -fig9, genrep-appd, cop-gen-table1 to -table5,
    cop-gen-linear-walk, hl-table1 to -table4, hl-fig3, hl-fig5, hl-fig6, hl-fig7

    \b
    Example:
      genrep-evaluate reproduce genrep-table1 --scale tiny --root data --download --out results
      genrep-evaluate reproduce genrep-fig5 --root data --out results --dry-run
      genrep-evaluate reproduce cop-gen-table1 --scale full --root /data --out results
    """
    from .reproduce.dry_run import describe_plan
    from .reproduce.run import ReproduceConfig, carry_out, prepare

    try:
        if options["hardware"] is not None and not dry_run:
            raise click.UsageError(f"--hardware {options['hardware']}: only tells times; wanted --dry-run beside it")
        config = ReproduceConfig(**options)
        if dry_run:
            say(describe_plan(config))
            return 0
        prepared = prepare(config)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    result = carry_out(prepared)
    if result.report is not None:
        say(f"report: {result.report}")
    for folder, why in result.failed.items():
        note(f"Error: {folder}: {why}")
    return 1 if result.failed else 0


@click.command("table")
@click.argument("results", nargs=-1, required=True, metavar="[NAME=]DIR...", type=PATH_TEXT)
def table_command(results: tuple[str, ...]) -> None:
    """Print results side by side, one table per dataset and protocol.

    A row is named as given, else after its folder; several seeds get a line with their mean.

    \b
    Example:
      genrep-evaluate table "random init"=runs/random gaussian=runs/gaussian
    """
    from genrep.evaluate.table import results_table

    from .report.rows import rows_of

    say(results_table([(row.name, path) for row in rows_of(results) for path in row.runs]))


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]DIR...", type=PATH_TEXT)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder for report.md and report.html.")
@click.option("--title", default="Report", show_default=True, help="Of the page.")
def report_command(runs: tuple[str, ...], out: Path, title: str) -> None:
    """One page of results beside the published numbers, as Markdown and HTML.

    A DIR holds results, and where it is a training's run, settings and curves as well. A row is named as given, else after
    its folder. Runs with one NAME are one row: the same training from several seeds.

    \b
    Example:
      genrep-evaluate report random=runs/random gaussian=runs/g0 gaussian=runs/g1 --out report
    """
    from .report import ReportConfig, rows_of, write_report

    try:
        config = ReportConfig(rows=rows_of(runs), out=out, title=title)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    result = write_report(config)
    for remark in result.notes:
        say(remark, err=True)
    say(
        f"report: {result.markdown}, {result.html}, {len(result.pictures)} plot{'s' if len(result.pictures) != 1 else ''}"
    )
