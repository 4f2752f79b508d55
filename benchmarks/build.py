"""The builder against the bare generator, in one run: how much of the generator's speed a dataset is built at.

    python benchmarks/build.py [--gen stylegan2_fashion] [--pairs 4000]

Both use one process per core with one thread each. Bare: synthesize alone, on latents made before. Builder: from latents to
shards on disk, without the start of the worker processes.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np


def bare_images_per_s(gen: str, seconds: float = 8.0) -> float:
    """Images/s of synthesize alone in this process, one thread, batches of 64."""
    import torch

    from genrep.generate import load_generator

    torch.set_num_threads(1)
    generator = load_generator(gen)
    z = torch.from_numpy(generator.latent.sample(0, np.arange(64)))
    y = torch.arange(64) % generator.num_classes if generator.num_classes else None
    with torch.no_grad():
        generator.synthesize(z, y)
        started, images = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            generator.synthesize(z, y)
            images += 64
        return images / (time.perf_counter() - started)


@click.command()
@click.option("--gen", default="stylegan2_fashion", show_default=True)
@click.option("--pairs", default=8000, show_default=True)
def main(gen: str, pairs: int) -> None:
    """Print both speeds and their ratio."""
    from genrep.generate import BuildConfig, build_dataset

    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        bare = sum(pool.map(bare_images_per_s, [gen] * cores))
    with tempfile.TemporaryDirectory() as folder:
        report = build_dataset(BuildConfig(gen=gen, out=Path(folder) / "out", num_pairs=pairs, device="cpu"))
        shards = report.manifest.shards
    busy = sum(shard.facts["seconds"] for shard in shards) / cores
    size = sum(shard.bytes for shard in shards)
    built = 2 * pairs / busy
    print(f"{gen}, {cores} processes of one thread")
    print(f"bare generator   {bare:8.0f} images/s")
    print(f"builder          {built:8.0f} images/s   {built / bare:.2f} of bare; {size / pairs:.0f} bytes/pair")


if __name__ == "__main__":
    main()
