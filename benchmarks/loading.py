"""Our loader, FFCV's and a torch DataLoader over PNG files on the same pairs, in one run; and what opening a large set costs.

    python benchmarks/loading.py [--workers 1] [--rounds 5]        # pairs/s and ratios
    python benchmarks/loading.py --start-up 1300000                # seconds and memory to open a set
    python benchmarks/loading.py figure3                           # HL's timing study: python -m genrep.papers.figure3

Loading and decoding alone: whole epochs in random order, every field, from the page cache. Ours reads eight shards, FFCV one
file with the same samples (its default pipelines: the same decoding), the DataLoader anchor and positive as PNG files, decoded
by Pillow. Each round runs the three in turns; a ratio is the median over rounds. On a busy machine look at pairs per second
of CPU time: wall clock then tells who shares the cores. Start-up: files of true tables over holes, so that 1.3 M pairs at
128 px fit anywhere.
"""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from genrep.papers.figure3.__main__ import figure3
from genrep.papers.figure3.measure import cpu_seconds
from genrep.papers.figure3.ways import LATENT, PICTURES, PngPairs, write_sets

KINDS = {
    "raw 32": (32, "raw", 64),
    "raw 128": (128, "raw", 4),
    "JPEG 128": (128, "jpeg:90", 4),
}  # …, thousands of pairs / 4
Run = Callable[[], Iterable[Any]]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one epoch."""

    wall: float  # pairs/s
    cpu: float  # pairs per second of CPU time, all threads and processes


def pictures(size: int) -> NDArray[np.uint8]:
    """Images that compress as photos do: noise of 1/f² power, and a little grain. Shape ``(PICTURES, size, size, 3)``."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    spectrum = np.fft.rfft2(random.standard_normal((PICTURES, 3, size, size))) / np.maximum(frequency, 1 / size) ** 1.3
    smooth = np.fft.irfft2(spectrum, s=(size, size))
    smooth = 128 + 50 * smooth / smooth.std(axis=(2, 3), keepdims=True) + 3 * random.standard_normal(smooth.shape)
    return np.ascontiguousarray(np.clip(smooth, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def ours(root: Path, batch_size: int, workers: int) -> Run:
    """``PairLoader``."""
    from genrep.train import PairLoader

    loader = PairLoader(root / "shards", batch_size=batch_size, workers=workers, drop_last=True)
    return lambda: loader


def ffcv(root: Path, batch_size: int, workers: int) -> Run:
    """FFCV's ``Loader`` on one file."""
    from ffcv.loader import Loader, OrderOption

    loader = Loader(
        str(root / "one.beton"),
        batch_size=batch_size,
        num_workers=workers,
        order=OrderOption.RANDOM,
        seed=0,
        os_cache=True,
    )
    return lambda: loader


def png(root: Path, batch_size: int, workers: int) -> Run:
    """torch's ``DataLoader``."""
    from torch.utils.data import DataLoader

    data: Any = PngPairs(root / "png")
    loader: Any = DataLoader(
        data, batch_size=batch_size, num_workers=workers, shuffle=True, drop_last=True, persistent_workers=True
    )
    return lambda: loader


MADE = (png, ours, ffcv)  # PNG first: its workers are forked before the others have threads


def measure(run: Run) -> Speed:
    """One epoch."""
    wall, cpu, pairs = time.perf_counter(), cpu_seconds(), 0
    for batch in run():
        pairs += len(batch["index"] if isinstance(batch, dict) else batch[0])
    return Speed(wall=pairs / (time.perf_counter() - wall), cpu=pairs / (cpu_seconds() - cpu))


def compare(name: str, workers: int, rounds: int, batch_size: int) -> None:
    """Print a table for one kind of set, and end the process: FFCV's threads and Numba's finalisers would not go quietly."""
    import torch

    torch.set_num_threads(1)
    size, encoding, thousands = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
        write_sets(Path(folder), pictures(size), encoding, thousands * 1000)
        runs = {made.__name__: made(Path(folder), batch_size, workers) for made in MADE}
        for run in runs.values():
            measure(run)  # compiles, and touches every page
        speeds: dict[str, list[Speed]] = {which: [] for which in runs}
        for _ in range(rounds):
            for which, run in runs.items():
                speeds[which].append(measure(run))
    click.echo(f"\n{name} px, {workers} workers, batches of {batch_size}")
    for which, found in speeds.items():
        line = f"  {which:5} {statistics.median(s.wall for s in found):9.0f} pairs/s"
        line += f" {statistics.median(s.cpu for s in found):9.0f} pairs per CPU second"
        for unit in ("wall", "cpu"):
            ratio = statistics.median(getattr(o, unit) / getattr(s, unit) for o, s in zip(speeds["ours"], found))
            line += f"   ours is {ratio:6.2f}x by {unit}" if which != "ours" else ""
        click.echo(line)
    sys.stdout.flush()
    del runs["png"]  # its workers and semaphores do go
    gc.collect()
    os._exit(0)


def write_tables(folder: Path, count: int, per_shard: int) -> None:
    """A dataset of raw 128-px pairs whose data are holes: true headers, records and allocation tables."""
    from genrep.datasets_manifest import Shard, build_manifest, field_table, layout, shard_name, write_manifest

    table = field_table((128, 128), "raw", num_positives=1, z_anchor=[LATENT])
    stored = layout.stored_fields(table)
    sizes = np.array([layout.size_limits(field)[0] for field in stored])
    page, record = layout.USUAL_PAGE, layout.record_dtype(table)
    per_page = page // int(sizes.sum())
    shards = []
    for k, first in enumerate(range(0, count, per_shard)):
        here = np.arange(min(per_shard, count - first))
        start = layout.HEADER.size + layout.DESCRIPTOR.size * len(table)
        pages = -(-(start + len(here) * record.itemsize) // page)
        samples = pages * page + here // per_page * page + here % per_page * int(sizes.sum())
        pointers = samples[:, None] + np.cumsum([0, *sizes[:-1]])
        end = (pages + -(-len(here) // per_page)) * page
        records = np.zeros(len(here), dtype=record)
        for column, field in enumerate(stored):
            if field["kind"] == "image":
                for part, value in (("mode", 1), ("width", 128), ("height", 128), ("data_ptr", pointers[:, column])):
                    records[field["name"]][part] = value
            else:
                records[field["name"]] = pointers[:, column]
        records["index"] = first + here
        rows = np.zeros(pointers.size, dtype=layout.ALLOCATION)
        rows["sample_id"], rows["ptr"] = np.repeat(here, len(stored)), pointers.ravel()
        rows["size"] = np.tile(sizes, len(here))
        with open(folder / shard_name(k), "wb") as file:
            file.write(layout.HEADER.pack(layout.VERSION, len(table), page, len(here), end))
            file.write(b"".join(map(layout.descriptor, table)) + records.tobytes())
            file.seek(end)
            file.write(rows.tobytes())
        size = end + rows.nbytes
        digest = "0" * 64
        shard = Shard(
            name=shard_name(k), first_index=first, count=len(here), bytes=size, sha256=digest, latents_sha256=digest
        )
        shards.append(shard)
    recipe = {"num_pairs": count, "pairs_per_shard": per_shard, "seed": 0}
    write_manifest(folder, build_manifest(recipe, table, ["none"], shards, {}))


def memory(name: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most so far."""
    lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(name))


def start_up(count: int) -> None:
    """Print what opening a set costs, beyond importing the loader."""
    from genrep.train import PairLoader

    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), count, 5000)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        before, wall, cpu = memory("VmRSS"), time.perf_counter(), cpu_seconds()
        loader = PairLoader(folder, batch_size=256)
        opened, opened_cpu = time.perf_counter(), cpu_seconds()
        next(iter(loader))
        first, first_cpu = time.perf_counter(), cpu_seconds()
        peak, after = memory("VmHWM") - before, memory("VmRSS") - before
    click.echo(
        f"{count} pairs in {-(-count // 5000)} shards: opened in {opened - wall:.2f} s ({opened_cpu - cpu:.2f} s of CPU),"
    )
    click.echo(
        f"first batch {first - opened:.2f} s later ({first_cpu - opened_cpu:.2f} s); +{after:.0f} MB, peak +{peak:.0f} MB"
    )


@click.group(invoke_without_command=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, help="Default: all.")
@click.option("--start-up", "pairs", type=int, help="Open a set of so many pairs instead.")
@click.pass_context
def main(
    context: click.Context, workers: int, rounds: int, batch_size: int, kinds: tuple[str, ...], pairs: int | None
) -> None:
    """Print a table for each kind of set."""
    if context.invoked_subcommand:
        return
    if pairs:
        start_up(pairs)
        return
    for name in kinds or KINDS:
        process = mp.get_context("spawn").Process(target=compare, args=(name, workers, rounds, batch_size))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(1)


if __name__ == "__main__":
    main.add_command(figure3)
    main()
