"""Regenerate or fetch the bad and missing shards and tables of a dataset, and nothing else, to the same sha256.

Shards are regenerated in a scratch folder inside the dataset's (a rename must not leave the file system) and checked there;
only correct ones replace the old. Fetched shards arrive as in a pull. A killed repair leaves the scratch folder, a pull's
folder or a temporary file: ``verify`` names it, and the next repair removes it. The manifest is written last.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genrep.across import RegenerationConfig, build_shards
from genrep.errors import DatasetError, renamed
from genrep.files import fsync_folder, lock
from genrep.machine import cores
from genrep.settings import config, setting
from genrep.untrusted import printable

from ..cards import CardConfig, write_card
from ..finish import gathered
from ..manifest import (
    Manifest,
    Shard,
    build_manifest,
    dataset_folder,
    read_manifest,
    read_shard_record,
    write_manifest,
    write_shard_record,
)
from ..tables import PROMPTS_NAME, SOURCES_NAME, check_table, table_faults
from ..transport import fetch_shards, fetch_tables
from ..verify import LEVELS, Problem, strays, verify, verify_shard
from .compare import BYTES, FINGERPRINTS, LATENTS, WORDS, shard_sameness
from .material import with_prompts

SCRATCH = ".repair"
WAY_OUT = {
    PROMPTS_NAME: "--from fetches it, --prompts FILE writes it again",
    SOURCES_NAME: "--from fetches it, --anchors DIR writes it again",
}


@config
class RepairConfig:
    """Settings of ``genrep-manifest repair``."""

    folder: Path = setting(argument=True, metavar="DIR", parse=dataset_folder)
    source: str | None = setting(
        default=None,
        flags="--from",
        metavar="URL|DIR",
        help="Copy of the dataset to fetch the shards from.  [default: generate them again]",
    )
    level: str = setting(
        default="bytes", choices=LEVELS, help="How much to check to find bad shards, as in genrep-manifest verify."
    )
    accept_fingerprints: bool = setting(
        default=False,
        help="Accept a shard with the same latents and fingerprint but other bytes, and record this in the manifest.",
    )
    jobs: int | None = setting(
        default=None, least=1, most=1024, metavar="N", help="Shards to read at a time.  [default: one per core]"
    )
    making: RegenerationConfig = field(default_factory=RegenerationConfig)


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What was bad, what is good again, and what is left."""

    folder: Path
    bad: list[str]  # shards' names
    repaired: list[str]  # to the sha256 of the manifest
    accepted: list[str]  # to other bytes: the manifest has changed
    records: list[str]  # jsons that were written again
    tables: list[str]  # that were fetched or made again
    left: list[str]  # a line per problem
    digest: str  # of the manifest, now

    def lines(self) -> Iterator[str]:
        """What the command prints."""
        for name in (*self.tables, *self.repaired):
            yield f"{name}: repaired"
        for name in self.accepted:
            yield f"{name}: {WORDS[FINGERPRINTS]}; accepted, and the manifest's digest is now {self.digest}"
        for name in self.records:
            yield f"{name}: rewritten"
        yield from self.left
        if not (self.bad or self.tables or self.records or self.left):
            yield f"{self.folder}: nothing to repair"

    def to_json(self) -> dict[str, Any]:
        """For ``--report``."""
        return {**vars(self), "folder": str(self.folder)}


def repair(config: RepairConfig) -> RepairReport:
    """Make a dataset folder match its manifest, as far as that can be done here.

    Raises:
        DatasetError: the folder or its manifest is missing or damaged.
        ResumeError: another process is at work in the folder.
        GenRepError: the shards cannot be made or fetched here; nothing was changed.
    """
    folder = config.folder
    manifest = read_manifest(folder)
    with renamed(out="folder"), _alone(folder):
        _refuse_hidden_links(folder)
        _remove_scratch(folder)
        _remove_temporaries(folder)
        problems = verify(folder, config.level, jobs=config.jobs or cores())
        bad = _shards_of(manifest, problems, record=False)
        broken = _broken_tables(config, manifest)
        tables, repaired, accepted, left = _renew(config, manifest, bad, broken) if bad or broken else ([], [], [], [])
        if accepted:
            manifest = _rewritten(manifest, accepted)
            for shard in accepted:
                write_shard_record(folder, shard)
            write_card(CardConfig(folder=folder), manifest)
            write_manifest(folder, manifest)
        taken = {shard.name for shard in accepted}
        records = [shard for shard in _shards_of(manifest, problems, record=True) if shard.name not in taken]
        for shard in records:
            write_shard_record(folder, shard)
        if not left:  # else its parts may still be of use
            _remove_pulled(folder)
        left += strays(folder, manifest)
    return RepairReport(
        folder=folder,
        bad=[shard.name for shard in bad],
        repaired=[shard.name for shard in repaired],
        accepted=[shard.name for shard in accepted],
        records=[shard.record_name for shard in records],
        tables=tables,
        left=left,
        digest=manifest.digest,
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises ResumeError if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, fcntl.LOCK_EX, folder)
        yield
    finally:
        os.close(descriptor)


def _refuse_hidden_links(folder: Path) -> None:
    """Refuse hidden links: files are first written under hidden names, which a stranger may have linked elsewhere."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.is_symlink():
                raise DatasetError(f"{folder}: holds the hidden link {printable(entry.name)}; remove it")


def _remove_scratch(folder: Path) -> None:
    """Remove what an earlier repair left."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / SCRATCH)


def _remove_temporaries(folder: Path) -> None:
    """Remove the files that a killed writer had not yet given their names."""
    for path in folder.glob(".*.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _remove_pulled(folder: Path) -> None:
    """Remove what a killed fetch left when its last shard was in place already."""
    from ..transport.fetch import HIDDEN

    with suppress(FileNotFoundError, NotADirectoryError):  # a file of this name is a stray
        shutil.rmtree(folder / HIDDEN)


def _shards_of(manifest: Manifest, problems: list[Problem], *, record: bool) -> list[Shard]:
    names = {problem.shard for problem in problems if problem.record == record}
    return [shard for shard in manifest.shards if shard.name in names]


def _broken_tables(config: RepairConfig, manifest: Manifest) -> dict[str, str]:
    """Names of the tables of rows that are missing or wrong, each with its first fault."""
    found = {}
    for facts in manifest.tables:
        for fault in table_faults(config.folder / facts["name"], facts, config.level):
            found[str(facts["name"])] = fault
            break
    return found


def _renew(
    config: RepairConfig, manifest: Manifest, bad: list[Shard], broken: dict[str, str]
) -> tuple[list[str], list[Shard], list[Shard], list[str]]:
    """Get tables and shards and install the correct ones.

    Returns the tables and shards that are the same, accepted shards, and a line for each that is left.
    """
    if config.source is not None:
        if broken:
            fetch_tables(config.source, config.folder, list(broken), manifest=manifest)
        return (list(broken), *_fetch(config.source, config.folder, manifest, bad), [])
    given = {PROMPTS_NAME: config.making.prompts, SOURCES_NAME: config.making.anchors}
    left = [f"{name}: {fault}; {WAY_OUT[name]}" for name, fault in broken.items() if given[name] is None]
    if not bad and len(left) == len(broken):
        return [], [], [], left
    scratch = config.folder / SCRATCH
    try:
        with with_prompts(config.folder, manifest, config.making) as making:
            build_shards(manifest.to_json(), [shard.number for shard in bad], scratch, making)
        mended = _install_tables(config, manifest, [name for name in broken if given[name] is not None], scratch)
        repaired, accepted, refused = _install(config, manifest, bad, scratch)
        return mended, repaired, accepted, [*left, *refused]
    finally:
        _remove_scratch(config.folder)


def _install_tables(config: RepairConfig, manifest: Manifest, names: list[str], scratch: Path) -> list[str]:
    """Move tables that a build wrote to their places: their digests are the recipe's, or it would not have begun."""
    for facts in manifest.tables:
        if facts["name"] in names:
            check_table(scratch / facts["name"], facts)
            os.replace(scratch / facts["name"], config.folder / facts["name"])
    fsync_folder(config.folder)
    return names


def _fetch(source: str, folder: Path, manifest: Manifest, bad: list[Shard]) -> tuple[list[Shard], list[Shard]]:
    fetch_shards(source, folder, [shard.name for shard in bad], manifest=manifest)
    return bad, []


def _install(
    config: RepairConfig, manifest: Manifest, bad: list[Shard], scratch: Path
) -> tuple[list[Shard], list[Shard], list[str]]:
    repaired: list[Shard] = []
    accepted: list[Shard] = []
    refused: list[str] = []
    for shard in bad:
        if not verify_shard(scratch, manifest, shard, "full" if config.level == "full" else "bytes"):
            os.replace(scratch / shard.name, config.folder / shard.name)
            repaired.append(shard)
            continue
        made = read_shard_record(scratch / shard.record_name)
        reason = _why_not(shard, made, config)
        if reason is None:
            accepted.append(replace(made, facts={**made.facts, "replaces": shard.sha256}))
        else:
            refused.append(f"{shard.name}: {reason}")
    for shard in accepted:  # last, and together: until the new manifest is written the folder agrees with neither
        os.replace(scratch / shard.name, config.folder / shard.name)
    fsync_folder(config.folder)
    return repaired, accepted, refused


def _why_not(wanted: Shard, made: Shard, config: RepairConfig) -> str | None:
    """The reason to refuse a shard with other bytes; None to accept it."""
    found = shard_sameness(wanted, made)
    if found.level == FINGERPRINTS and config.accept_fingerprints:
        return None
    if found.level == BYTES:
        return "rebuilt to the same sha256, but the manifest describes it wrongly"
    hints = {
        FINGERPRINTS: "; --accept-fingerprints accepts it, --from fetches the same bytes",
        LATENTS: "; --from fetches the same bytes",
    }
    said = found.reason or f"{WORDS[found.level]}, but other bytes"
    return f"rebuilt, it has {said} (there {_making(wanted)}; here {_making(made)}){hints.get(found.level, '')}"


def _making(shard: Shard) -> str:
    """The device and versions that a shard was made with."""
    packages = shard.facts.get("packages")
    torch = packages.get("torch", "unknown") if isinstance(packages, dict) else "unknown"
    return (
        f"{shard.facts.get('device', 'unknown')}, batches of {shard.facts.get('batch_size', 'unknown')}, torch {torch}"
    )


def _rewritten(manifest: Manifest, accepted: list[Shard]) -> Manifest:
    """The manifest with these shards' new records: another digest, the same id."""
    new = {shard.name: shard for shard in accepted}
    shards = [new.get(shard.name, shard) for shard in manifest.shards]
    build = {**manifest.build, **gathered(shards)}
    return build_manifest(
        manifest.recipe,
        manifest.fields,
        manifest.classes,
        shards,
        build,
        manifest.tables,
        schema_version=manifest.schema_version,
    )
