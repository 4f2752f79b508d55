"""One shard: generated, written and recorded by whichever process holds its lock; its bytes are the same on every run."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from genrep.datasets_manifest.beton_writer import BetonWriter
from genrep.datasets_manifest.fingerprints import make_fingerprint
from genrep.datasets_manifest.finish import RECIPE_NAME, FolderLocks, done_shard
from genrep.datasets_manifest.layout import is_jpeg
from genrep.datasets_manifest.manifest import Shard as ShardRecord
from genrep.datasets_manifest.manifest import shard_name, write_shard_record
from genrep.images.turbojpeg import jpeg_encoder

from ..plans.build_plan import BuildPlan
from ..sources.base import Batch, OpenSource, OutOfMemoryError, Source
from .output_folder import claimed_plan

PACKAGES = ("genrep", "torch", "numpy", "pillow")
FAMILY_PACKAGES = {"diffusers": ("diffusers", "transformers")}  # that a family's images depend on as well

Event = tuple[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every process of a build needs to know."""

    out: Path
    plan: BuildPlan
    open_source: OpenSource
    device: str
    threads: int  # of each process
    first_batch: int | None = None  # --batch-size auto begins with this; None = a batch size that was given stays


def build_shard(job: Job, source: Source, number: int) -> Iterator[Event]:
    """Build one shard, unless it is done or another process is building it.

    Yields ``("pairs", count)`` for each batch (negative for a return to the shard's start), then ``("shard", record)``, with
    None in the last case.
    """
    with FolderLocks(job.out / RECIPE_NAME) as locks, locks.shard(number) as ours:
        found = done_shard(job.out, job.plan.recipe, number) if ours else None
        if found is not None:
            yield "pairs", found.count
        if found is not None or not ours:
            yield "shard", found
            return
        yield from _build_within_memory(job, source, number)


def _build_within_memory(job: Job, source: Source, number: int) -> Iterator[Event]:
    """With ``--batch-size auto`` a batch that the device cannot hold is halved, for this shard from its start and for all
    that follow, so that every shard is made with one batch shape."""
    while True:
        told = 0
        try:
            for kind, value in _write_shard(job, source, number):
                told += value if kind == "pairs" else 0
                yield kind, value
            return
        except OutOfMemoryError:
            if job.first_batch is None or source.batch_size == 1:
                raise
        yield "pairs", -told
        source.halve_batch()


def _write_shard(job: Job, source: Source, number: int) -> Iterator[Event]:
    started, shard = time.monotonic(), job.plan.shard(number)
    with ShardWriter.of(job, number) as writer:
        for batch in source.batches(shard.first_index, shard.count):
            writer.append(batch)
            yield "pairs", len(batch.indices)
        digests = writer.finish()
    yield "shard", record_shard(job, number, digests, source.batch_size, time.monotonic() - started)


class ShardWriter:
    """Context manager that writes one shard; nothing appears under ``path`` until ``finish`` has returned."""

    def __init__(self, path: Path, table: list[dict[str, Any]], count: int, page: int) -> None:
        self.file, self.table = BetonWriter(path, table, count, page), table
        self.latents_digest = hashlib.sha256()

    @classmethod
    def of(cls, job: Job, number: int) -> ShardWriter:
        """The writer of a job's shard, with the page size that the folder was begun with."""
        page = claimed_plan(job.out, job.plan).page_size
        return cls(job.out / shard_name(number), job.plan.fields, job.plan.shard(number).count, page)

    def __enter__(self) -> ShardWriter:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)

    def append(self, batch: Batch) -> None:
        """Add the batch's pairs."""
        self.file.append(batch.columns(self.table))
        for row in range(len(batch.indices)):
            for z in batch.latents:
                self.latents_digest.update(z[row].astype("<f4").tobytes())

    def finish(self) -> dict[str, Any]:
        """Write the tables, make the file durable, give it its name; returns its bytes and digests."""
        size, sha256 = self.file.finish()
        return {"bytes": size, "sha256": sha256, "latents_sha256": self.latents_digest.hexdigest()}


def record_shard(job: Job, number: int, digests: dict[str, Any], batch_size: int, seconds: float) -> ShardRecord:
    """Write the record of a shard whose file is whole: now it exists."""
    shard = job.plan.shard(number)
    facts = {"dataset_id": job.plan.id, "batch_size": batch_size, "seconds": round(seconds, 3), **making(job)}
    path = job.out / shard_name(number)
    fingerprint = make_fingerprint(path, job.plan.fields, shard.first_index, shard.count, job.plan.num_shards)
    if fingerprint is not None:
        facts["fingerprint"] = fingerprint
    record = ShardRecord(name=path.name, first_index=shard.first_index, count=shard.count, facts=facts, **digests)
    write_shard_record(job.out, record)
    return record


def remove_leftovers(out: Path) -> None:
    """Remove the leftovers of killed processes for shards that nobody is writing."""
    with FolderLocks(out / RECIPE_NAME) as locks:
        for path in out.glob(".shard-*.tmp"):
            number = path.name[len(".shard-") :].partition(".")[0]
            if not number.isdecimal():
                continue
            with locks.shard(int(number)) as ours:
                if ours:
                    path.unlink(missing_ok=True)


def making(job: Job) -> dict[str, Any]:
    """Device, threads and package versions of this process: everything that the bytes of a shard may depend on."""
    family = job.plan.recipe.get("generator", {}).get("family")
    names = (*PACKAGES, *FAMILY_PACKAGES.get(family, ()))
    packages = {"python": platform.python_version(), **{name: _version(name) for name in names}}
    if any(map(is_jpeg, job.plan.fields)):
        packages["jpeg"] = jpeg_encoder()
    return {"device": job.device, "threads": job.threads, "machine": platform.machine(), "packages": packages}


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
