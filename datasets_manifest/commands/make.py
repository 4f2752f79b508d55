"""Commands that write into a dataset (``finish``, ``card``, ``sign``, ``repair``) or make another (``export``, ``rebuild``)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from genrep.across import RegenerationConfig
from genrep.cli import print_config, tell
from genrep.errors import DatasetError
from genrep.machine import cores
from genrep.option_types import PATH, ParsedPath
from genrep.settings import configured, from_options, options
from genrep.untrusted import printable

from ..cards import CardConfig, write_card
from ..exporting import ExportConfig, export
from ..finish import finish
from ..manifest import dataset_folder
from ..recovery.rebuild import RebuildConfig, rebuild
from ..recovery.repair import RepairConfig, repair
from . import DRY_RUN, REPORT, write_report


@click.command("finish")
@click.argument("folder", metavar="DIR", type=ParsedPath(dataset_folder))
def finish_command(folder: Path) -> None:
    """Write the manifest of a dataset built in parts.

    All shards in DIR must be done. No generator is needed. The last part of a build does this by itself, so the command is
    only for a build whose last part was interrupted.

    \b
    Example:
      genrep-manifest finish shards/
    """
    manifest = finish(folder)
    facts = {"folder": folder, "id": manifest.id, "digest": manifest.digest}
    facts |= {"num_pairs": manifest.num_pairs, "num_shards": len(manifest.shards), "bytes": manifest.num_bytes}
    tell(facts, f"{folder}: {manifest.num_pairs:,} pairs in {len(manifest.shards)} shards")


@click.command("card")
@options(CardConfig)
def card_command(**values: Any) -> None:
    """Write README.md and croissant.json of the dataset in DIR.

    README.md is a dataset card in the form that Hugging Face reads: generator, weights and licence, latent law, views, biases
    and risks, how to cite. croissant.json is Croissant metadata with the sha256 of every file. Both depend on the manifest
    alone, so their bytes are the same each time. Files that somebody edited are left alone. Builds do this by themselves.

    \b
    Example:
      genrep-manifest card shards/
    """
    config = from_options(CardConfig, values)
    report = write_card(config)
    written = [config.folder / name for name in report.written]
    tell({"written": written, "kept": report.kept}, written)
    if report.kept:
        raise DatasetError.naming(
            "{}: {}: edited, or not written by this command; {force} overwrites",
            config.folder,
            " and ".join(report.kept),
        )


@click.command("sign")
@click.argument("folder", metavar="DIR", type=ParsedPath(dataset_folder), required=False)
@click.option("--key", metavar="FILE", type=PATH, help="Secret key to sign with, made by minisign or by --new-key.")
@click.option("--new-key", metavar="FILE", type=PATH, help="Make a key pair: FILE is secret, FILE.pub is for others.")
@click.option("--password", is_flag=True, help="Protect the new key with a password.")
@click.option("--force", is_flag=True, help="Replace a signature that another key made.")
def sign_command(folder: Path | None, key: Path | None, new_key: Path | None, password: bool, force: bool) -> None:
    """Sign the dataset in DIR, or make a key.

    The signature covers manifest.json, which holds the sha256 of every shard and table, so verify first. It is written to
    manifest.json.minisig.md in minisign's format. Others check it with genrep-manifest verify --signer FILE.pub, or with
    minisign itself. Needs the package py-minisign.

    \b
    Example:
      genrep-manifest sign --new-key lab.key
      genrep-manifest sign shards/ --key lab.key
    """
    from .. import signing

    if new_key is not None:
        if folder is not None or key is not None:
            raise click.UsageError(f"--new-key {new_key}: cannot be combined with DIR or --key")
        chosen = _ask("New password: ", confirm=True) if password else None
        if chosen == "":
            raise click.UsageError("--password: wanted a password that is not empty")
        made = signing.new_key(new_key, chosen)
        tell(made, [f"{made.secret}: secret, keep it", f"{made.public}: public", made.text])
        return
    if folder is None or key is None:
        raise click.UsageError("wanted DIR and --key FILE, or --new-key FILE")
    if password:
        raise click.UsageError("--password: requires --new-key; the password of a protected key is asked for")
    config = signing.SignConfig(folder=folder, key=key, force=force)
    public = signing.sign(config, lambda: _ask(f"Password of {key}: "))
    signature = folder / signing.SIGNATURE_NAME
    tell({"signature": signature, "signer": public}, f"{signature}: signed by {public}")


def _ask(prompt: str, *, confirm: bool = False) -> str:
    """A password from the terminal, unseen, or the first line of what is piped in."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, prompt_suffix="", err=True))
    return sys.stdin.readline().rstrip("\n")


@click.command("export")
@configured(ExportConfig, dry_run="Print the settings and exit.")
def export_command(config: ExportConfig) -> None:
    """Convert the dataset in DIR to a format that needs no FFCV.

    \b
      folder      anchor/00000/00000000.png, ...; metadata.jsonl; z_anchor.npy, ... with a row per sample
      webdataset  tar files of 00000000.anchor.png, 00000000.z_anchor.npy, 00000000.json, ...
      parquet     as Hugging Face's datasets reads it; needs pyarrow

    JPEG images are copied as stored and all others become PNG, so no pixel changes. Latents that are not stored are made again,
    and rows of prompts and real anchors get their texts beside them. The same command resumes an interrupted
    export. The tables of the shards are checked but not their sha256: verify a stranger's dataset first.

    \b
    Example:
      genrep-manifest export shards/ --format webdataset --out tars
    """
    started = time.monotonic()
    report = export(config)
    seconds, there = time.monotonic() - started, report.pairs - report.written_pairs
    before = f", {there:,} were there" if there else ""
    files = f"{report.files:,} file{'s' if report.files != 1 else ''}"
    tell(
        {**vars(report), "out": config.out, "format": config.format, "seconds": seconds},
        f"OK {config.out}: {report.pairs:,} pairs in {files}{before}, {seconds:.1f} s",
    )


@click.command("repair")
@options(RepairConfig)
@REPORT
@DRY_RUN
@options(RegenerationConfig)
def repair_command(report: Path | None, dry_run: bool, **values: Any) -> None:
    """Restore bad and missing shards and tables of rows.

    Rebuilds or fetches exactly these, to the sha256 in the manifest; nothing else in DIR is touched. A shard that comes
    out with other bytes, as on another kind of device, is refused and the exit status is 1. --accept-fingerprints accepts it
    if it holds the same images within rounding: the manifest's digest then changes, the dataset's id does not.

    \b
    Example:
      genrep-manifest repair shards/
      genrep-manifest repair shards/ --from https://example.org/shards
    """
    making = from_options(RegenerationConfig, values)
    config = from_options(RepairConfig, {**values, "making": making, "jobs": values["jobs"] or cores()})
    if dry_run:
        print_config(config)
        return
    found = repair(config)
    write_report(report, found)
    tell(found, map(printable, found.lines()))
    if left := len(found.left):
        raise DatasetError(f"{config.folder}: {left} problem{'s' if left > 1 else ''} left")


@click.command("rebuild")
@options(RebuildConfig)
@REPORT
@DRY_RUN
@options(RegenerationConfig)
def rebuild_command(report: Path | None, dry_run: bool, **values: Any) -> None:
    """Rebuild a dataset from its manifest.

    Needs only the recipe in the manifest, the generator's weights, the prompts beside the manifest (or --prompts) and the
    images of real anchors (--anchors), where there are any. Works on any machine. Reports how far the rebuilt dataset matches
    the original:

    \b
      bytes         every file is the same, and so is the manifest
      fingerprints  the same latents; the images match the manifest's thumbnails up to a device's rounding
      latents       the same latents; the manifest holds nothing to compare the images with

    Latents or images that do not match are an error. The same command resumes an interrupted rebuild. A manifest cannot make
    genrep run code: if the generator is a Python module, name it with --gen.

    \b
    Example:
      genrep-manifest rebuild manifest.json --out shards
    """
    config = from_options(RebuildConfig, {**values, "making": from_options(RegenerationConfig, values)})
    if dry_run:
        print_config(config)
        return
    found = rebuild(config)
    write_report(report, found)
    tell(found, found.lines())
