"""genrep-manifest verify against hashlib.file_digest: bytes per second of one core, and of several.

python benchmarks/verify.py [--folder DIR] [--shards 8] [--megabytes 256] [--jobs 1,2] [--rounds 3]

Without --folder it makes shards of random raw images in a temporary one (in the page cache: no disk is measured). One round
reads everything once each way, in turn, so that a machine that is busy at times slows all alike; the best round counts.
Each number of jobs has its own yardstick, file_digest in as many threads: what the machine has to give at that time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from genrep.datasets_manifest import (
    Shard,
    build_manifest,
    field_table,
    layout,
    read_manifest,
    shard_name,
    write_manifest,
)
from genrep.datasets_manifest.manifest import write_shard_record
from genrep.datasets_manifest.verify import verify

PAGE = 2 << 20
SIDE = 64  # pixels


def write_shard(path: Path, first: int, pages: int) -> Shard:
    """A shard of one anchor image per pair, as many as fill its pages."""
    fields = field_table((SIDE, SIDE), "raw")
    size = SIDE * SIDE * 3
    count = pages * (PAGE // size)
    samples = np.zeros(count, dtype=layout.record_dtype(fields))
    start = -(-(layout.HEADER.size + layout.DESCRIPTOR.size * len(fields) + samples.nbytes) // PAGE) * PAGE
    rows = np.arange(count)
    pointers = start + rows // (PAGE // size) * PAGE + rows % (PAGE // size) * size
    samples["anchor"]["mode"], samples["anchor"]["width"], samples["anchor"]["height"] = layout.MODES["raw"], SIDE, SIDE
    samples["anchor"]["data_ptr"], samples["label"], samples["index"] = pointers, -1, first + rows
    table = np.zeros(count, dtype=layout.ALLOCATION)
    table["sample_id"], table["ptr"], table["size"] = rows, pointers, size
    head = layout.HEADER.pack(layout.VERSION, len(fields), PAGE, count, start + pages * PAGE)
    head += b"".join(layout.descriptor(field) for field in fields) + samples.tobytes()
    with open(path, "wb") as file:
        file.write(head.ljust(start, b"\0"))
        for _ in range(pages):
            file.write(os.urandom(PAGE))
        file.write(table.tobytes())
    return Shard(
        name=path.name,
        first_index=first,
        count=count,
        bytes=path.stat().st_size,
        sha256=digest(path),
        latents_sha256=hashlib.sha256().hexdigest(),
    )


def write_dataset(folder: Path, shards: int, megabytes: int) -> None:
    """A finished dataset of ``megabytes`` in all."""
    made: list[Shard] = []
    for k in range(shards):
        first = sum(shard.count for shard in made)
        made.append(write_shard(folder / shard_name(k), first, max(1, megabytes * 1_000_000 // shards // PAGE)))
        write_shard_record(folder, made[-1])
    pairs = sum(shard.count for shard in made)
    recipe = {"num_pairs": pairs, "pairs_per_shard": made[0].count, "seed": 0}
    write_manifest(folder, build_manifest(recipe, field_table((SIDE, SIDE), "raw"), [], made, {}))


def digest(path: Path) -> str:
    """What we are measured against."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_all(paths: list[Path], jobs: int) -> None:
    """Digest the files, ``jobs`` at a time."""
    with ThreadPoolExecutor(jobs) as threads:
        list(threads.map(digest, paths))


def check(folder: Path, jobs: int) -> None:
    """Verify at level bytes."""
    problems = verify(folder, "bytes", jobs=jobs)
    if problems:
        raise SystemExit(f"Error: {problems[0]}")


def measure(folder: Path, jobs: list[int], rounds: int) -> None:
    """Print speeds, and ratios to hashlib's times the jobs."""
    manifest = read_manifest(folder)
    paths = [folder / shard.name for shard in manifest.shards]
    ways: dict[str, Callable[[], None]] = {}
    for number in jobs:
        ways[f"file_digest, {number} threads"] = partial(digest_all, paths, number)
        ways[f"verify --jobs {number}"] = partial(check, folder, number)
    best = dict.fromkeys(ways, float("inf"))
    digest_all(paths, 1)  # into the page cache
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - started)
    print(f"{manifest.num_bytes / 1e6:.0f} MB in {len(paths)} shards, {len(os.sched_getaffinity(0))} cores")
    for number in jobs:
        theirs, ours = (best[name] for name in (f"file_digest, {number} threads", f"verify --jobs {number}"))
        for name, seconds in ((f"file_digest, {number} threads", theirs), (f"verify --jobs {number}", ours)):
            print(f"{name:24} {manifest.num_bytes / seconds / 1e6:7.0f} MB/s")
        print(f"{'':24} {theirs / ours:7.2f} of file_digest")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--jobs", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.folder is not None:
        measure(options.folder, options.jobs, options.rounds)
        return
    with tempfile.TemporaryDirectory(prefix="genrep-verify-") as folder:
        write_dataset(Path(folder), options.shards, options.megabytes)
        measure(Path(folder), options.jobs, options.rounds)


if __name__ == "__main__":
    main()
