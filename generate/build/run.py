"""Build the open shards of a plan, with progress, then finish the dataset once none is open.

A call builds all open shards, those of an array job's part, or the next ones of torchrun's counter. Ranks of
torchrun take the next shard from one counter, so that a slow GPU delays nobody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from genrep.datasets_manifest.finish import SHEET_NAME, done_shards, finish
from genrep.datasets_manifest.manifest import MANIFEST_NAME, Manifest, read_manifest
from genrep.errors import DatasetError, RecipeError
from genrep.progress import Progress, note

from ..plans.build_plan import BuildPlan
from ..sources.base import LaunchSource
from .encoders import EncoderPool
from .output_folder import claimed_folder
from .shard import Event, Job, remove_leftovers
from .workers import WorkerPool, build_here

STORE_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which shards this call builds, and whether others are at work in the same folder."""

    shared: bool
    numbers: Callable[[list[int]], Iterator[int]]  # from the open shards to those that this call takes


ALL = Share(shared=False, numbers=iter)


def part_of(k: int, n: int) -> Share:
    """The shards i = k (mod n) that part k of n of an array job builds."""
    return Share(shared=True, numbers=lambda todo: iter([number for number in todo if number % n == k]))


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This process among those that torchrun started."""

    local: int  # on this machine
    address: str
    port: int
    attempt: str  # restarts of torchrun's elastic agent so far: each begins a counter of its own

    def device(self, name: str) -> str:
        """``auto`` and ``cuda`` become this rank's GPU."""
        import torch

        if name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return name

    def share(self, plan: BuildPlan) -> Share:
        """The next open shards, as the counter in torch's store gives them out."""

        def numbers(todo: list[int]) -> Iterator[int]:
            from torch.distributed import DistNetworkError, DistStoreError, TCPStore  # type: ignore[attr-defined]

            wanted = set(todo)
            try:
                store = TCPStore(self.address, self.port, is_master=False, timeout=STORE_TIMEOUT)
                # Every rank counts over all shards: what was done when it began it skips.
                while (number := store.add(f"genrep/{plan.id}/{self.attempt}", 1) - 1) < plan.num_shards:
                    if number in wanted:
                        yield number
            except (DistNetworkError, DistStoreError) as error:
                raise RecipeError(f"torchrun's store at {self.address}:{self.port} does not answer ({error})") from None

        return Share(shared=True, numbers=numbers)


def this_rank() -> Rank | None:
    """The rank that torchrun's environment names; None outside torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    try:
        return Rank(
            local=int(os.environ["LOCAL_RANK"]),
            address=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
            attempt=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
    except (KeyError, ValueError) as error:
        raise RecipeError(f"torchrun's environment is incomplete ({error})") from None


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    folder: Path
    manifest: Manifest | None  # None while other parts or processes still build shards
    done_shards: int
    num_shards: int
    built_pairs: int  # built by this call; 0 if everything was already done
    seconds: float

    @property
    def sheet(self) -> Path:
        """The picture of the first pairs."""
        return self.folder / SHEET_NAME


Events = Callable[[Iterator[int]], Iterator[Event]]


def events_of(job: Job, source: Callable[[], LaunchSource], processes: int, encoders: int) -> Events:
    """The events of a build with these numbers of processes.

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
    """Raises DatasetError if a shard of a finished dataset has since disappeared: genrep-manifest repair restores it."""
    there = {shard.name for shard in done_shards(job.out, job.plan.recipe)}
    gone = [shard.name for shard in manifest.shards if shard.name not in there]
    if gone:
        raise DatasetError.naming(
            "{out} {}: was finished, but {} is missing or truncated ({} of {} shards); "
            "genrep-manifest repair restores them",
            job.out,
            gone[0],
            len(gone),
            len(manifest.shards),
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
    """Build the open shards and, however it ends, say how far it got. Returns the number of pairs built."""
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


def _say_how_far(out: Path, plan: BuildPlan, done: int) -> None:
    note(f"{out}: {done} of {plan.num_shards} shards are done; the same command goes on from there")


class _BatchSizeTeller:
    """Says, once for each size, that ``--batch-size auto`` had to go below its first try."""

    def __init__(self, job: Job) -> None:
        self.device, self.smallest = job.device, job.first_batch

    def __call__(self, batch_size: int) -> None:
        if self.smallest is not None and batch_size < self.smallest:
            self.smallest = batch_size
            note(f"--batch-size auto: {batch_size} images at a time fit in the memory of {self.device}")
