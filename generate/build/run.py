"""Build what is open of a plan, with progress; then finish the dataset if nothing is open any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from genrep.datasets_manifest.finish import SHEET_NAME, done_shards, finish
from genrep.datasets_manifest.manifest import MANIFEST_NAME, Manifest, read_manifest
from genrep.errors import DatasetError
from genrep.progress import Progress, note

from ..plans.plan import Plan
from ..sources.base import LaunchSource
from .encoders import EncoderPool
from .output_folder import claimed_folder
from .shard import Event, Job, remove_leftovers
from .shares import ALL, Share
from .workers import WorkerPool, build_here


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    folder: Path
    manifest: Manifest | None  # None: shards are open that other parts or processes build
    done_shards: int
    num_shards: int
    built_pairs: int  # by this call; 0 if the work was found done
    seconds: float

    @property
    def sheet(self) -> Path:
        """The picture of the first pairs."""
        return self.folder / SHEET_NAME


Events = Callable[[Iterator[int]], Iterator[Event]]


def events_of(job: Job, source: Callable[[], LaunchSource], processes: int, encoders: int) -> Events:
    """The way of building with so many processes of each kind.

    Args:
        source: opens the source in this process, which other processes do by themselves.
        processes: that generate; with 1 it is this one.
        encoders: that encode and write beside this one; 0: it does so itself.
    """
    if processes > 1:
        return WorkerPool(job, processes).run
    opened = source()
    if encoders:
        return EncoderPool(job, opened, encoders).run
    return lambda numbers: build_here(job, opened, numbers)


def run_build(job: Job, events: Events, share: Share = ALL) -> BuildReport:
    """Build the open shards of ``share`` and finish the dataset if none is open then.

    ``events`` builds the shards whose numbers it is given, and yields ``("pairs", count)`` and ``("shard", record or None)``.

    Raises:
        ResumeError: the folder belongs to something else.
        GeneratorError: the generator failed; shards that were done stay done.
    """
    started, plan = time.monotonic(), job.plan
    with claimed_folder(job.out, plan, shared=share.shared):
        if (job.out / MANIFEST_NAME).exists():
            manifest = read_manifest(job.out)
            _require_whole(job, manifest)
            return _report(job, manifest, plan.num_shards, 0, 0.0)
        remove_leftovers(job.out)
        built_pairs = _build_open_shards(job, events, share)
        done = sum(1 for _ in done_shards(job.out, plan.recipe))
        found = finish(job.out) if done == plan.num_shards else None
    return _report(job, found, done, built_pairs, time.monotonic() - started)


def _require_whole(job: Job, manifest: Manifest) -> None:
    """Raises DatasetError if a shard of a finished dataset is gone since: repairing is another command's work."""
    there = {shard.name for shard in done_shards(job.out, job.plan.recipe)}
    gone = [shard.name for shard in manifest.shards if shard.name not in there]
    if gone:
        raise DatasetError(
            f"--out {job.out}: was finished, but {gone[0]} is missing or cut ({len(gone)} of {len(manifest.shards)} shards); "
            "genrep-manifest repair brings them back"
        )


def _report(job: Job, manifest: Manifest | None, done: int, built_pairs: int, seconds: float) -> BuildReport:
    return BuildReport(
        folder=job.out,
        manifest=manifest,
        done_shards=done,
        num_shards=job.plan.num_shards,
        built_pairs=built_pairs,
        seconds=seconds,
    )


def _build_open_shards(job: Job, events: Events, share: Share) -> int:
    """Build what is not done; on any way out, say how far it got. Returns the number of pairs that were built."""
    plan = job.plan
    found = {record.name: record for record in done_shards(job.out, plan.recipe)}
    before = sum(record.count for record in found.values())
    names = {plan.shard(number).first_index: number for number in range(plan.num_shards)}
    done = {names[record.first_index] for record in found.values()}
    todo = share.numbers([number for number in range(plan.num_shards) if number not in done])
    built = 0
    tell = _BatchSizeTeller(job)
    try:
        with Progress(plan.num_pairs, plan.unit, f"building {job.out}", initial=before) as progress:
            for kind, value in events(todo):
                if kind == "pairs":
                    progress.update(value)
                elif value is not None:
                    done.add(names[value.first_index])
                    built += value.count
                    tell(value.facts["batch_size"])
    except BaseException:
        remove_leftovers(job.out)
        _say_how_far(job.out, plan, len(done))
        raise
    return built


def _say_how_far(out: Path, plan: Plan, done: int) -> None:
    note(f"{out}: {done} of {plan.num_shards} shards are done; the same command goes on from there")


class _BatchSizeTeller:
    """Says, once for each size, that ``--batch-size auto`` had to go below its first try."""

    def __init__(self, job: Job) -> None:
        self.device, self.smallest = job.device, job.first_batch

    def __call__(self, batch_size: int) -> None:
        if self.smallest is not None and batch_size < self.smallest:
            self.smallest = batch_size
            note(f"--batch-size auto: {batch_size} images at a time fit the memory of {self.device}")
