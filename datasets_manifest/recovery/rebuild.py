"""A whole dataset made again from its manifest, and how much it is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.errors import DatasetError, ResumeError
from genrep.regeneration import RegenerationConfig, build_shards

from ..finish import done_shards, finish
from ..manifest import MANIFEST_NAME, Manifest, read_manifest
from ..sources import load_manifest
from .compare import BYTES, DIFFERENT, SAMENESS, WORDS, ShardSameness, shard_sameness, weakest

MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class RebuildConfig:
    """Settings of ``genrep-manifest rebuild``."""

    source: str  # folder, manifest file or address
    out: Path
    making: RegenerationConfig = field(default_factory=RegenerationConfig)


@dataclass(frozen=True, kw_only=True)
class RebuildReport:
    """What was made, and how much it is what it shall be."""

    folder: Path
    manifest: Manifest  # of the new folder; the given one where every byte is the same
    given_digest: str
    shards: list[ShardSameness]

    @property
    def level(self) -> str:
        """Of the least same shard."""
        return weakest(self.shards)

    def lines(self) -> Iterator[str]:
        """What the command prints."""
        yield f"folder         {self.folder}"
        yield f"pairs          {self.manifest.num_pairs} in {len(self.shards)} shards"
        counts = Counter(shard.level for shard in self.shards)
        for level in SAMENESS:
            if counts[level]:
                yield f"shards         {counts[level]} of {len(self.shards)}: {WORDS[level]}"
        same = "; manifest.json is the one that was given" if self.level == BYTES else ""
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
    """Make a dataset again in ``out``, or go on where an earlier call stopped.

    Where every shard has the manifest's sha256 the given manifest is written, so that the folder is the given one. Else the
    new one names the given one's digest and the sameness that was reached under ``build.rebuilt_from``.

    Raises:
        GenRepError: it cannot be made here; or a shard's latents, or its images, are not those of the manifest: then no
            manifest is written.
    """
    given = load_manifest(config.source)
    finished = (config.out / MANIFEST_NAME).exists()
    if finished and (found := read_manifest(config.out)).id != given.id:
        raise ResumeError(f"--out {config.out}: holds another dataset, {found.id[:12]}…, wanted {given.id[:12]}…")
    if not finished:
        build_shards(given.to_json(), range(len(given.shards)), config.out, config.making)
    made = read_manifest(config.out).shards if finished else list(done_shards(config.out, given.recipe))
    shards = [shard_sameness(wanted, shard) for wanted, shard in zip(given.shards, made)]
    if wrong := [shard for shard in shards if shard.level == DIFFERENT]:
        named = "; ".join(f"{shard.name}: {shard.reason}" for shard in wrong[:MAX_NAMED])
        more = f"; and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise DatasetError(f"{config.out}: not what the manifest says: {named}{more}")
    level = weakest(shards)
    facts = {"rebuilt_from": {"digest": given.digest, "sameness": level}}
    manifest = finish(config.out, known=given if level == BYTES else None, facts=facts)
    return RebuildReport(folder=config.out, manifest=manifest, given_digest=given.digest, shards=shards)
