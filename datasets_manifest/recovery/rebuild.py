"""Rebuild a whole dataset from its manifest, and report how far it is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.across import RegenerationConfig, build_shards
from genrep.errors import DatasetError, ManifestError, ResumeError
from genrep.files import digest_json, locked_folder, require_writable
from genrep.progress import Progress
from genrep.settings import config, setting

from ..finish import MAX_BYTES, RECIPE_NAME, done_shards, finish
from ..manifest import MANIFEST_NAME, Manifest, Shard, read_manifest
from ..strict_json import read_json
from ..tables import table_faults
from ..transport import load_manifest
from ..verify import Problem, verify_shard
from .compare import BYTES, DIFFERENT, SAMENESS, WORDS, ShardSameness, shard_sameness, weakest
from .material import with_prompts

MAX_NAMED = 3


@config
class RebuildConfig:
    """Settings of ``genrep-manifest rebuild``."""

    source: str = setting(argument=True, metavar="MANIFEST|DIR|URL")
    out: Path = setting(metavar="DIR", help="Folder of the new dataset.")
    making: RegenerationConfig = field(default_factory=RegenerationConfig)


@dataclass(frozen=True, kw_only=True)
class RebuildReport:
    """What was rebuilt, and how far it is the same as the original."""

    folder: Path
    manifest: Manifest  # of the new folder; the given one where every byte is the same
    given_digest: str
    shards: list[ShardSameness]

    @property
    def level(self) -> str:
        """The sameness of the least similar shard."""
        return weakest(self.shards)

    def lines(self) -> Iterator[str]:
        """What the command prints."""
        yield f"folder         {self.folder}"
        yield f"pairs          {self.manifest.num_pairs} in {len(self.shards)} shards"
        counts = Counter(shard.level for shard in self.shards)
        for level in SAMENESS:
            if counts[level]:
                yield f"shards         {counts[level]} of {len(self.shards)}: {WORDS[level]}"
        same = "; manifest.json is the one that was given" if self.manifest.digest == self.given_digest else ""
        yield f"sameness       {self.level}{same}"

    def to_json(self) -> dict[str, Any]:
        """For ``--report``."""
        return {
            "folder": str(self.folder),
            "id": self.manifest.id,
            "given_digest": self.given_digest,
            "digest": self.manifest.digest,
            "sameness": self.level,
            "shards": [shard.to_json() for shard in self.shards],
        }


def rebuild(config: RebuildConfig) -> RebuildReport:
    """Rebuild a dataset in ``out``, or resume an earlier call.

    The bytes of every shard are read, new or found in ``out``; damaged shards in an unfinished ``out`` are rebuilt.
    If every shard has the manifest's sha256, the given manifest is written, so that the folder equals the original. Otherwise
    a new manifest states the original's digest and the sameness reached, under ``build.rebuilt_from``.

    Raises:
        GenRepError: the dataset cannot be made here; a shard's latents or images are not those of the manifest, in which case
            no manifest is written; or ``out`` was finished before, and a shard has since disappeared or changed.
    """
    given = load_manifest(config.source)
    require_writable(config.out)
    finished = (config.out / MANIFEST_NAME).exists()
    made = _found(config.out, given) if finished else _made(config, given)
    shards = [shard_sameness(wanted, shard) for wanted, shard in zip(given.shards, made, strict=True)]
    if wrong := [shard for shard in shards if shard.level == DIFFERENT]:
        named = "; ".join(f"{shard.name}: {shard.reason}" for shard in wrong[:MAX_NAMED])
        more = f"; and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise DatasetError(f"{config.out}: not what the manifest says: {named}{more}")
    level = weakest(shards)
    facts = {"rebuilt_from": {"digest": given.digest, "sameness": level}}
    manifest = finish(config.out, known=given if level == BYTES else None, facts=facts)
    return RebuildReport(folder=config.out, manifest=manifest, given_digest=given.digest, shards=shards)


def _found(out: Path, given: Manifest) -> list[Shard]:
    """The shards of a folder that is finished, all of them whole. Raises ResumeError, DatasetError."""
    manifest = read_manifest(out)
    if manifest.id != given.id:
        raise ResumeError.naming(
            "{out} {}: holds another dataset, {}…, wanted {}…", out, manifest.id[:12], given.id[:12]
        )
    broken = [
        Problem(shard=None, reason=f"{facts['name']}: {fault}")
        for facts in manifest.tables
        for fault in table_faults(out / facts["name"], facts, "bytes")
    ]
    if faults := broken + _faults(out, manifest, manifest.shards):
        raise DatasetError.naming(
            "{out} {}: was finished, but {} ({} of {} {}); genrep-manifest repair restores them",
            out,
            faults[0],
            len(faults),
            len(manifest.shards) + len(manifest.tables),
            "files" if manifest.tables else "shards",
        )
    return manifest.shards


def _made(config: RebuildConfig, given: Manifest) -> list[Shard]:
    """The shards of a folder that is not finished yet, after whatever was open or damaged was made."""
    kept = _drop_damaged(config.out, given)
    with with_prompts(config.source, given, config.making) as making:
        build_shards(given.to_json(), range(len(given.shards)), config.out, making)
    made = list(done_shards(config.out, given.recipe))
    if len(made) != len(given.shards):
        raise DatasetError.naming(
            "{out} {}: only {} of the {} shards just made are left", config.out, len(made), len(given.shards)
        )
    if faults := _faults(config.out, given, [shard for shard in made if shard.name not in kept]):
        raise DatasetError.naming("{out} {}: just made, but {}; the same command makes it again", config.out, faults[0])
    return made


def _drop_damaged(out: Path, given: Manifest) -> set[str]:
    """Remove this build's shards that do not match their records; returns the names of those that do."""
    if not _is_of(out, given):
        return set()  # nothing is there, or it is for the builder to refuse
    with locked_folder(out):
        done = list(done_shards(out, given.recipe))
        damaged = {problem.shard for problem in _faults(out, given, done)}
        for shard in done:
            if shard.name in damaged:
                (out / shard.record_name).unlink(missing_ok=True)  # first: a shard without its record does not exist
                (out / shard.name).unlink(missing_ok=True)
    return {shard.name for shard in done} - damaged


def _is_of(out: Path, given: Manifest) -> bool:
    """Whether a folder was begun for this dataset."""
    try:
        return digest_json(read_json(out / RECIPE_NAME, MAX_BYTES)) == given.id
    except ManifestError:
        return False


def _faults(out: Path, manifest: Manifest, shards: list[Shard]) -> list[Problem]:
    """The first fault of each shard whose file does not match its record. Every byte is read."""
    faults = []
    with Progress(sum(shard.bytes for shard in shards), "byte", f"reading {out}") as progress:
        for shard in shards:
            faults += verify_shard(out, manifest, shard, "bytes")[:1]
            progress.update(shard.bytes)
    return faults
