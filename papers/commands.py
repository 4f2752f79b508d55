"""The command lines of ``reproduce``, ``table``, ``report`` and ``source``, verbs of ``genrep-evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import complain, tell
from genrep.errors import ConfigError
from genrep.option_types import PATH, PATH_TEXT
from genrep.progress import note
from genrep.settings import flags_of, from_options, options

from .report.config import ReportConfig, rows_of
from .reproduce.config import ReproduceConfig
from .source.config import SourceConfig


@click.command("reproduce")
@options(ReproduceConfig)
@click.option("--dry-run", is_flag=True, help="Print the plan with estimated times and sizes, and exit.")
def reproduce_command(dry_run: bool, **values: Any) -> int:
    """Repeat a table or figure of the papers and report the results beside the published numbers.

    Each dataset is built once and each encoder is trained once, however many rows or tables need it. Running the same command
    again resumes where the last one stopped. A task that fails does not stop the tasks that do not need it. The report is
    written to OUT/TABLE-SCALE/.

    The papers are GenRep (Jahanian et al. 2022), COP-Gen (Li et al. 2022) and HL (Hierarchical-Latent Generative Models Are
    Robust View Generators for Contrastive Representation Learning).

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
    from .reproduce.run import carry_out, prepare

    config = from_options(ReproduceConfig, values)
    if config.hardware is not None and not dry_run:
        raise click.UsageError(f"--hardware {config.hardware}: only affects estimated times; requires --dry-run")
    try:
        if dry_run:
            plan = describe_plan(config)
            tell(plan, str(plan))
            return 0
        prepared = prepare(config)
    except ConfigError as error:
        raise click.UsageError(error.in_shell(flags_of(ReproduceConfig))) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    result = carry_out(prepared)
    tell(result, [] if result.report is None else f"report: {result.report}")
    for folder, why in result.failed.items():
        complain(f"{folder}: {why}")
    return 1 if result.failed else 0


@click.command("table")
@click.argument("results", nargs=-1, required=True, metavar="[NAME=]DIR...", type=PATH_TEXT)
def table_command(results: tuple[str, ...]) -> None:
    """Print results side by side, one table per dataset and protocol.

    Each row has the NAME given, or the name of its folder. A row with several seeds gets a further line with their mean.

    \b
    Example:
      genrep-evaluate table "random init"=runs/random gaussian=runs/gaussian
    """
    from genrep.evaluate.table import entries_of, table_of

    found = [(row.name, entry) for row in rows_of(results) for path in row.runs for entry in entries_of(path)]
    tell({"results": [{"name": name, "entry": entry} for name, entry in found]}, table_of(found))


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]DIR...", type=PATH_TEXT)
@options(ReportConfig)
def report_command(runs: tuple[str, ...], **values: Any) -> None:
    """Write a page of results beside the published numbers, as Markdown and HTML.

    A DIR is a folder of results. If it is also the folder of a training run, the page shows the run's settings and curves.
    Each row has the NAME given, or the name of its folder. Runs of the same NAME form one row: one training from several seeds.

    \b
    Example:
      genrep-evaluate report random=runs/random gaussian=runs/g0 gaussian=runs/g1 --out report
    """
    from .report import write_report

    result = write_report(from_options(ReportConfig, {**values, "rows": rows_of(runs)}))
    for remark in result.notes:
        note(remark)
    plots = f"{len(result.pictures)} plot{'s' if len(result.pictures) != 1 else ''}"
    tell(result, f"report: {result.markdown}, {result.html}, {plots}")


@click.command("source")
@click.argument("sources", nargs=-1, required=True, metavar="DATASET...", type=PATH)
@options(SourceConfig)
def source_command(sources: tuple[Path, ...], **values: Any) -> None:
    """Measure datasets beside the real images that they stand for.

    Each DATASET is a folder of shards. Its anchors are compared with real training images in the features of any encoder:
    Fréchet distance, precision, recall, density, coverage and Vendi score, near-duplicates within the dataset, and copies of
    real training images. All get the same number of images. Real test images are measured like one more dataset. The table is
    written to OUT/source.md and OUT/source.json.

    \b
    Example:
      genrep-evaluate source shards/a shards/b --real fashion_mnist --root data --encoder runs/x --out sources
    """
    from .source.measure import measure_sources, page

    result = measure_sources(from_options(SourceConfig, {**values, "sources": sources}))
    tell(result, [page(result), f"{result.markdown}, {result.json}"])
