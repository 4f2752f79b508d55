"""Examine a dataset: files, signature and a regenerated sample. The result is text and a report.

The sample is a few pairs that are generated again and compared with those in the shards.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.across import RegenerationConfig, stored_pairs
from genrep.errors import ConfigError, DatasetError, GenRepError
from genrep.machine import cores
from genrep.progress import Progress
from genrep.seeding import derive
from genrep.settings import config, setting
from genrep.untrusted import printable

from .. import layout
from ..contents import decode_jpeg
from ..manifest import Shard, dataset_folder, read_manifest
from ..schema import WEIGHT_FIELD
from ..shard_checks import open_shard
from ..verify import LEVELS, Problem, clutter, verify
from .material import with_prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..beton import Beton


WEIGHT_PART = 0.05  # of a weight, by which one may differ that follows from such an image
MEAN_LEVELS = 2.0  # mean difference that rounding, and JPEG after it, may make in a regenerated image


@config
class SampleConfig:
    """Which pairs are compared, and how they are regenerated."""

    folder: Path
    count: int
    seed: int | None = None  # None: drawn, so that nobody can have prepared for it
    making: RegenerationConfig = field(default_factory=RegenerationConfig)


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """The result of the comparison."""

    seed: int
    indices: list[int]
    identical_images: int  # byte for byte
    images: int
    largest: int  # levels (of 255) by which a value differs
    problems: list[Problem]

    def __str__(self) -> str:
        equal = f"{self.identical_images} of {self.images} images are the same bytes"
        rest = f", the others within {self.largest} levels" if self.identical_images < self.images else ""
        return f"{len(self.indices)} pairs (--sample-seed {self.seed}): latents and labels are the same, {equal}{rest}"

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {name: value for name, value in vars(self).items() if name != "problems"}


def compare_sample(config: SampleConfig) -> SampleReport:
    """Make ``count`` pairs again. Latents and labels must be equal bit for bit, images bytes or within MEAN_LEVELS on average.

    Shards that are missing are not asked for. Raises GenRepError: they cannot be made here, or a shard cannot be read.
    """
    manifest = read_manifest(config.folder)
    seed = secrets.randbits(32) if config.seed is None else config.seed
    present = [shard for shard in manifest.shards if (config.folder / shard.name).exists()]
    indices = _draw(present, config.count, seed)
    with with_prompts(config.folder, manifest, config.making) as making:
        made = dict(stored_pairs(manifest.to_json(), indices, making))
    problems: list[Problem] = []
    identical, images, largest = 0, 0, 0
    for shard in present:
        inside = [i for i in indices if 0 <= i - shard.first_index < shard.count]
        if not inside:
            continue
        with open_shard(config.folder, manifest, shard) as beton:
            for i in inside:
                for row in manifest.fields:
                    if row["name"] not in made[i] or row["name"] not in beton.fields:
                        continue
                    levels, reason = _compare(beton, row, i - shard.first_index, made[i][row["name"]])
                    if row["kind"] == "image":
                        images, identical = images + 1, identical + (levels == 0)
                        largest = max(largest, levels)
                    if reason:
                        problems.append(Problem(shard=shard.name, reason=f"pair {i} made again: {reason}"))
    return SampleReport(
        seed=seed, indices=indices, identical_images=identical, images=images, largest=largest, problems=problems
    )


def _draw(shards: list[Shard], count: int, seed: int) -> list[int]:
    """``count`` indices of the pairs of these shards, ascending."""
    if not shards:
        raise DatasetError("there are no shards here to take pairs from")
    ends = np.cumsum([shard.count for shard in shards])
    chosen: set[int] = set()
    draws = 0
    while len(chosen) < min(count, int(ends[-1])):
        place = derive("sample", seed, draws) % int(ends[-1])
        k = int(np.searchsorted(ends, place, side="right"))
        chosen.add(shards[k].first_index + shards[k].count - (int(ends[k]) - place))
        draws += 1
    return sorted(chosen)


def _compare(beton: Beton, field: dict[str, Any], i: int, made: NDArray[np.uint8]) -> tuple[int, str]:
    """Largest difference in levels, and what is wrong (empty: nothing)."""
    name = field["name"]
    if field["kind"] == "int":
        same = int(beton.samples[name][i]) == int(made.view("<i8")[0])
        return 0, "" if same else f"{name} differs"
    if field["kind"] == "float":
        there, here = float(beton.samples[name][i]), float(made.view("<f8")[0])
        same = there == here or (name == WEIGHT_FIELD and abs(there - here) <= WEIGHT_PART * abs(there))
        return 0, "" if same else f"{name} differs"
    stored = beton.read(i, name)
    if np.array_equal(stored, made):
        return 0, ""
    if field["kind"] == "float32":
        return 0, f"{name} differs"
    levels = np.abs(_pixels(stored, field).astype(np.int16) - _pixels(made, field))
    largest, mean = max(1, int(levels.max())), float(levels.mean())
    return largest, "" if mean <= MEAN_LEVELS else f"{name} differs by {mean:.1f} levels on average, {largest} at most"


def _pixels(stored: NDArray[np.uint8], field: dict[str, Any]) -> NDArray[np.uint8]:
    if not layout.is_jpeg(field):
        return stored
    try:
        return decode_jpeg(stored, field["shape"]).reshape(-1)  # pairs that are made again have one size
    except ValueError as reason:
        raise DatasetError(f"{field['name']} {reason}") from None


@config
class ExamineConfig:
    """Settings of ``genrep-manifest verify``."""

    folder: Path = setting(argument=True, metavar="DIR", parse=dataset_folder)
    level: str = setting(
        default="bytes",
        choices=LEVELS,
        help="How much to check. quick: presence, sizes, FFCV tables. bytes: also sha256. full: also decoding, "
        "latents and fingerprints.",
    )
    jobs: int | None = setting(
        default=None, least=1, most=1024, metavar="N", help="Shards to read at a time.  [default: one per core]"
    )
    partial: bool = setting(default=False, help="Accept a dataset with shards missing.")
    signer: str | None = setting(
        default=None,
        metavar="KEY|FILE",
        help="Require the manifest to be signed with this minisign public key.  [default: no signature needed]",
    )
    regenerate: int | None = setting(
        default=None,
        least=1,
        metavar="N",
        help="With --level full: also generate N pairs again and compare them. The options below apply only to this.",
    )
    sample_seed: int | None = setting(
        default=None, least=0, metavar="S", help="Seed that chooses those pairs.  [default: random]"
    )
    making: RegenerationConfig = field(default_factory=RegenerationConfig)

    def __post_init__(self) -> None:
        """Check that the settings fit together. Raises ConfigError."""
        if self.regenerate and self.level != "full":
            raise ConfigError.naming("{regenerate} {}: requires {level} full", self.regenerate)


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
        told = self.problems if self.failure is None else [Problem(shard=None, reason=self.failure.in_shell())]
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
            yield f"remark: {printable(', '.join(self.remarks))}: left by a file manager, not part of the dataset"
        manifest = read_manifest(folder)
        shards = [shard for shard in manifest.shards if not partial or (folder / shard.name).exists()]
        pairs, size = sum(shard.count for shard in shards), sum(shard.bytes for shard in shards)
        part = f" of {len(manifest.shards)}" if len(shards) < len(manifest.shards) else ""
        level = self.config.level + (", signed" if self.signed is not None else "")
        yield (
            f"OK {folder}: {pairs:,} pairs in {len(shards)}{part} shards, {size:,} bytes, level {level}, "
            f"{self.seconds:.1f} s"
        )


def examine(config: ExamineConfig) -> Examination:
    """Verify a dataset folder, its signature if one is required, and a sample of pairs if no problem was found."""
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
    """The report's entry on the signature; a fault is added to ``problems``."""
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
        """Receive the bytes read so far and in all."""
        if self.progress is None:
            self.progress = Progress(total, "byte", self.label)
        self.progress.update(done - self.done)
        self.done = done

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)
