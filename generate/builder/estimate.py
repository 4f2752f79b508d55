"""What a build would take: shards and bytes from the plan, time from ten seconds of the real pipeline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..pixels import jpeg_options
from .folder import claim
from .job import Job
from .plan import pair_bytes
from .run import Events
from .source import Source

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


def estimate(job: Job, source: Source, make_events: Callable[[Job], Events]) -> Estimate:
    """Run the pipeline in a temporary folder for PROBE_SECONDS, counted from its first pairs, and extrapolate."""
    with tempfile.TemporaryDirectory(prefix="genrep-plan-") as folder:
        probe = replace(job, out=Path(folder) / "out")
        probe.out.mkdir()
        claim(probe.out, probe.plan)
        rate = _pairs_per_s(make_events(probe), probe.plan.num_shards)
    return Estimate(
        num_pairs=job.plan.num_pairs,
        num_shards=job.plan.num_shards,
        pairs_per_shard=int(job.plan.recipe["pairs_per_shard"]),
        bytes=round(job.plan.num_pairs * _bytes_per_pair(job, source)),
        pairs_per_s=rate,
    )


def _pairs_per_s(events: Events, num_shards: int) -> float:
    pairs, first = 0, 0.0
    running = events(iter(range(num_shards)))
    try:
        for kind, value in running:
            now = time.monotonic()
            if kind == "pairs" and first == 0.0:
                first, last = now, now  # what came before belongs to the start
            elif kind == "pairs":
                pairs, last = pairs + value, now
            if first and now - first >= PROBE_SECONDS:
                break
    finally:
        close = getattr(running, "close", None)  # a generator's: stops the processes, removes temporary files
        if close is not None:
            close()
    return pairs / (last - first) if pairs else float("inf")


def _bytes_per_pair(job: Job, source: Source) -> float:
    """From the plan for raw images; JPEGs are made of the first pairs' images and weighed."""
    fields = job.plan.fields
    options = jpeg_options(fields[0]["encoding"])
    if options is None:
        return pair_bytes(fields)
    import cv2

    batch = next(iter(source.batches(0, min(PROBE_IMAGES, job.plan.num_pairs))))
    total = 0
    for image in (image for view in batch.images for image in view):
        total += len(cv2.imencode(".jpg", image[:, :, ::-1], options)[1])
    count = len(batch.indices)
    others = [row for row in fields if row["kind"] != "image"]
    return total / count + pair_bytes(others) + 40 * len(batch.images)
