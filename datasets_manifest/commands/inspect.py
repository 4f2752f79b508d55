"""The commands that only read datasets: ``show``, ``list``, ``browse``, ``verify``, ``diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.across import RegenerationConfig
from genrep.cli import print_config, tell
from genrep.files import size_text
from genrep.net import shown
from genrep.option_types import PATH_TEXT, IntRange
from genrep.settings import from_options, options
from genrep.untrusted import printable

from ..browsing import BrowseConfig, browse
from ..recovery.examine import ExamineConfig, examine
from ..transport.pull import TransferLimits
from . import DRY_RUN, REPORT, write_report


@click.command("show")
@click.argument("source", metavar="DIR|URL|FILE.json", type=PATH_TEXT)
def show_command(source: str) -> None:
    """Print what a dataset is.

    Prints the recipe, size, fields, licence, provenance and contact sheet as the manifest states them. The shards are not
    checked: genrep-manifest verify does that. With --json it prints a summary and the whole manifest.

    \b
    Example:
      genrep-manifest show shards/
      genrep-manifest show https://example.org/shards
      genrep-manifest show shards/ --json | jq .manifest.recipe
    """
    from ..describe import describe, summary
    from ..transport import load_manifest

    manifest = load_manifest(source)
    tell({"summary": summary(source, manifest), "manifest": manifest}, describe(source, manifest))


@click.command("list")
def list_command() -> None:
    """List the datasets of the catalogue.

    Each can be fetched by its name (genrep-manifest pull NAME), or is made here by the command that is shown.

    \b
    Example:
      genrep-manifest list
    """
    from ..catalogue import entries

    found = entries()
    tell(found, [line for entry in found for line in entry.lines()])


@click.command("browse")
@options(BrowseConfig, "source", "out")
@click.option(
    "--serve",
    metavar="[PORT]",
    is_flag=False,
    flag_value=0,
    type=IntRange(min=0, max=65535),
    help="Show the page at an address of this machine, until Ctrl-C.  [PORT: any that is free]",
)
@options(BrowseConfig, "samples", "megabytes", "partial", "force")
@options(TransferLimits)
@DRY_RUN
def browse_command(serve: int | None, dry_run: bool, **values: Any) -> None:
    """Make a web page that shows the dataset in DIR or at URL.

    The page is one HTML file that needs no network and no other file: pairs to page through and enlarge, classes and their
    counts, distances in latent space, facts, licence, and how to load the dataset. For a dataset at URL, only the tables of
    some shards and the pairs that are shown are fetched.

    \b
    Example:
      genrep-manifest browse shards/ --out page.html
      genrep-manifest browse https://example.org/shards --out page.html
      genrep-manifest browse shards/ --serve
    """
    config = from_options(BrowseConfig, {**values, "limits": from_options(TransferLimits, values)})
    if config.out is None and serve is None:
        raise click.UsageError("wanted --out FILE.html, or --serve")
    if dry_run:
        print_config({**vars(config), "source": shown(config.source), "limits": vars(config.limits), "serve": serve})
        return
    report = browse(config)
    came = f", {size_text(report.fetched)} fetched from {report.shards} shards" if report.fetched else ""
    kind = "pairs" if report.manifest.num_positives else "images"
    line = (
        f"OK {config.out or shown(config.source)}: {report.pairs:,} of {report.manifest.num_pairs:,} {kind}, page of "
        f"{size_text(len(report.page))}{came}"
    )
    facts = {
        "page": config.out,
        "bytes": len(report.page),
        "id": report.manifest.id,
        "pairs": report.pairs,
        "num_pairs": report.manifest.num_pairs,
        "fetched": report.fetched,
    }
    if serve is None:
        tell(facts, line)
        return
    from ..browsing.server import PageServer

    with PageServer(report.page, serve) as server:
        tell({**facts, "url": server.url}, [line, f"{server.url}  (Ctrl-C ends)"])
        server.serve_forever()


@click.command("verify")
@options(ExamineConfig, "folder", "level", "jobs", "partial")
@REPORT
@options(ExamineConfig, "signer", "regenerate", "sample_seed")
@options(RegenerationConfig)
def verify_command(report: Path | None, **values: Any) -> None:
    """Check the dataset in DIR against its manifest.

    Prints one line per problem and exits with 1 if there are any. Safe to run on folders from strangers.

    \b
    Example:
      genrep-manifest verify shards/
      genrep-manifest verify shards/ --level full --regenerate 20
    """
    found = examine(from_options(ExamineConfig, {**values, "making": from_options(RegenerationConfig, values)}))
    write_report(report, found)
    if found.failure is not None:
        raise found.failure
    tell(found, [printable(str(problem)) for problem in found.problems] or found.lines())
    found.require_good()


@click.command("diff")
@click.argument("one", metavar="A", type=PATH_TEXT)
@click.argument("other", metavar="B", type=PATH_TEXT)
def diff_command(one: str, other: str) -> None:
    """Show how two datasets differ.

    A and B are folders, manifest files or addresses. Only the manifests are read. Exits with 0 if every shard of both is the
    same byte for byte, otherwise with 1. Differences in who built them, when and on what are shown but do not count.

    \b
    Example:
      genrep-manifest diff shards/ rebuilt/
    """
    from ..recovery.compare import compare
    from ..transport import load_manifest

    found = compare(load_manifest(one), load_manifest(other))
    tell(found, found.lines())
    if not found.same_bytes:
        raise click.exceptions.Exit(1)
