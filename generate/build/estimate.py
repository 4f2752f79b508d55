"""What a build would take: shards and bytes from the plan, time (and JPEGs' bytes) from ten seconds of the real pipeline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from genrep.datasets_manifest.beton_writer import stored_image
from genrep.datasets_manifest.manifest import Shard as ShardRecord

from ..plans.plan import Plan, shard_bytes
from ..sources.base import Source
from .output_folder import claim
from .run import Events
from .shard import Job

PROBE_SECONDS = 10.0
PROBE_IMAGES = 32  # of each view, to see what JPEG makes of them


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What ``--plan`` prints."""

    num_pairs: int
    num_shards: int
    pairs_per_shard: int
    bytes: int
    pairs_per_s: float

    @property
    def seconds(self) -> float:
        """Of the whole build on this machine."""
        return self.num_pairs / self.pairs_per_s


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """What the pipeline did in PROBE_SECONDS."""

    pairs_per_s: float
    shards: list[ShardRecord]  # those that it finished


def estimate(job: Job, source: Source, make_events: Callable[[Job], Events]) -> Estimate:
    """Run the pipeline in a temporary folder for PROBE_SECONDS, counted from its first pairs, and extrapolate."""
    with tempfile.TemporaryDirectory(prefix="genrep-plan-") as folder:
        trial = replace(job, out=Path(folder) / "out")
        trial.out.mkdir()
        claim(trial.out, trial.plan)
        probe = _probe(make_events(trial), trial.plan.num_shards)
    return Estimate(
        num_pairs=job.plan.num_pairs,
        num_shards=job.plan.num_shards,
        pairs_per_shard=int(job.plan.recipe["pairs_per_shard"]),
        bytes=round(_bytes(job.plan, source, probe.shards)),
        pairs_per_s=probe.pairs_per_s,
    )


def _probe(events: Events, num_shards: int) -> _Probe:
    pairs, first = 0, 0.0
    shards: list[ShardRecord] = []
    running = events(iter(range(num_shards)))
    try:
        for kind, value in running:
            now = time.monotonic()
            if kind == "shard":
                shards.append(value)
            elif first == 0.0:
                first, last = now, now  # what came before belongs to the start
            else:
                pairs, last = pairs + value, now
            if first and now - first >= PROBE_SECONDS:
                break
    finally:
        close = getattr(running, "close", None)  # a generator's: stops the processes, removes temporary files
        if close is not None:
            close()
    return _Probe(pairs_per_s=pairs / (last - first) if pairs else float("inf"), shards=shards)


def _bytes(plan: Plan, source: Source, made: list[ShardRecord]) -> float:
    """Of all shards: what those of the same length came to that were made, else what the plan tells."""
    encoding = plan.fields[0]["encoding"]
    jpegs = 0.0 if encoding == "raw" else _jpeg_bytes(plan, source, encoding)

    def size(number: int) -> float:
        count = plan.shard(number).count
        known = [shard.bytes for shard in made if shard.count == count]
        return fmean(known) if known else shard_bytes(plan.fields, count, plan.page_size, jpegs)

    last = plan.num_shards - 1
    return last * size(0) + size(last)


def _jpeg_bytes(plan: Plan, source: Source, encoding: str) -> float:
    """Of a pair's images, on average over the first pairs."""
    batch = next(iter(source.batches(0, min(PROBE_IMAGES, plan.num_pairs))))
    sizes = (len(stored_image(image, encoding)) for view in batch.images for image in view)
    return sum(sizes) / len(batch.indices)
