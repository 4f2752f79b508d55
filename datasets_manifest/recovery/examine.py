"""A dataset looked at from all sides: files, signature, and a sample made again; what was found, in words and as a report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.across import RegenerationConfig
from genrep.errors import ConfigError, DatasetError, GenRepError
from genrep.progress import Progress
from genrep.settings import config, setting
from genrep.untrusted import printable

from ..manifest import dataset_folder, read_manifest
from ..verify import LEVELS, Problem, clutter, cores, verify
from .sample import SampleConfig, SampleReport, compare_sample


@config
class ExamineConfig:
    """Settings of ``genrep-manifest verify``."""

    folder: Path = setting(argument=True, metavar="DIR", parse=dataset_folder)
    level: str = setting(
        default="bytes",
        choices=LEVELS,
        help="quick: presence, sizes, FFCV tables. bytes: + sha256. full: + decoding, latents, fingerprints.",
    )
    jobs: int | None = setting(
        default=None, least=1, most=1024, metavar="N", help="Shards read at a time.  [default: one per core]"
    )
    partial: bool = setting(default=False, help="Shards that are missing are no problem.")
    signer: str | None = setting(
        default=None, metavar="KEY|FILE", help="Require a signature of the manifest by this minisign public key."
    )
    regenerate: int | None = setting(
        default=None,
        least=1,
        metavar="N",
        help="With --level full: make N pairs again and compare. The options below are for this alone.",
    )
    sample_seed: int | None = setting(
        default=None, least=0, metavar="S", help="Which pairs those are.  [default: unforeseeable]"
    )
    making: RegenerationConfig = field(default_factory=RegenerationConfig)

    def __post_init__(self) -> None:
        """What goes together. Raises ConfigError."""
        if self.regenerate and self.level != "full":
            raise ConfigError.naming("{regenerate} {}: goes with {level} full", self.regenerate)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found."""

    config: ExamineConfig
    problems: list[Problem]
    signed: dict[str, Any] | None  # what was asked of the signature, and whether it holds
    sample: SampleReport | None
    failure: GenRepError | None  # why no sample could be made
    remarks: list[str]  # files that a file manager has left
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """For ``--report``."""
        told = self.problems if self.failure is None else [Problem(shard=None, reason=str(self.failure))]
        return {
            "folder": str(self.config.folder),
            "level": self.config.level,
            "partial": self.config.partial,
            "seconds": round(self.seconds, 3),
            "remarks": self.remarks,
            "signer": self.signed,
            "sample": None if self.sample is None else self.sample.to_json(),
            "ok": not told,
            "problems": [{"shard": problem.shard, "reason": problem.reason} for problem in told],
        }

    def require_good(self) -> None:
        """Raises DatasetError if there are problems."""
        if self.problems:
            count = len(self.problems)
            raise DatasetError(
                f"{self.config.folder}: {count} problem{'s' if count > 1 else ''} at level {self.config.level}"
            )

    def lines(self) -> Iterator[str]:
        """What the command prints of a dataset without problems."""
        folder, partial = self.config.folder, self.config.partial
        if self.sample is not None:
            yield f"made again {self.sample}"
        if self.remarks:
            yield f"remark: {printable(', '.join(self.remarks))}: left by a file manager, no part of the dataset"
        manifest = read_manifest(folder)
        shards = [shard for shard in manifest.shards if not partial or (folder / shard.name).exists()]
        pairs, size = sum(shard.count for shard in shards), sum(shard.bytes for shard in shards)
        part = f" of {len(manifest.shards)}" if len(shards) < len(manifest.shards) else ""
        level = self.config.level + (", signed" if self.signed is not None else "")
        yield (
            f"OK {folder}: {pairs:,} pairs in {len(shards)}{part} shards, {size:,} bytes, level {level}, {self.seconds:.1f} s"
        )


def examine(config: ExamineConfig) -> Examination:
    """Verify a dataset folder, its signature where one is asked for, and a sample of pairs where no problem was found."""
    folder = config.folder
    started = time.monotonic()
    with _ProgressBar(f"verifying {folder.name}") as bar:
        problems = verify(folder, config.level, bar.report, jobs=config.jobs or cores(), partial=config.partial)
    signed = None if config.signer is None else _signature(folder, config.signer, problems)
    sample, failure = None, None
    if config.regenerate and not problems:
        wanted = SampleConfig(folder=folder, count=config.regenerate, seed=config.sample_seed, making=config.making)
        try:
            sample = compare_sample(wanted)
            problems += sample.problems
        except GenRepError as error:
            failure = error
    return Examination(
        config=config,
        problems=problems,
        signed=signed,
        sample=sample,
        failure=failure,
        remarks=clutter(folder) if folder.is_dir() else [],
        seconds=time.monotonic() - started,
    )


def _signature(folder: Path, signer: str, problems: list[Problem]) -> dict[str, Any]:
    """What the report says of the signature; a fault is added to ``problems``."""
    from ..signing import verify_signature

    fault = None
    try:
        verify_signature(folder, signer)
    except GenRepError as error:
        fault = str(error)
        if not any(problem.reason.startswith(fault) for problem in problems):  # a manifest that cannot be read
            problems.append(Problem(shard=None, reason=fault))
    return {"key": signer, "ok": fault is None}


class _ProgressBar:
    """A Progress that learns its total with the first report."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.done = 0
        self.progress: Progress | None = None

    def report(self, done: int, total: int) -> None:
        """Hear of bytes so far and in all."""
        if self.progress is None:
            self.progress = Progress(total, "byte", self.label)
        self.progress.update(done - self.done)
        self.done = done

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)
