"""The builder against its generator alone, and against PNG files, in one run.

    python benchmarks/build.py [--device cuda] [--case null] [--case stylegan2_fashion] [--case stylegan2_car]

Cases: a generator that costs nothing, so that the pipeline's own ceiling shows; the embedded generator; StyleGAN2 in the shape
of the published cars (config-f, 512x384) with random weights.

In every round, on CPUs, as many processes as cores (of one thread each) side by side run the generator alone and then each
other stage alone; then the builder runs. So all see the same machine; medians of the rounds are printed. On a GPU one process
generates and others encode. The builder's speed leaves out the start of its processes: on CPUs it is pairs over the seconds
that the processes spent on shards, else pairs over the time from the first shard's start to the last one's record.

Bound (CPU): what the cores could do if storing cost were added to generation's, 1 / (2 / bare + storing / cores) pairs/s,
with the bare images/s of all cores and the seconds in which one process stores a pair: encoding, writing, fsync, digests.

PNG: the same uint8 images written as files through Pillow by one process, as GenRep did, against shards written by one process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

NULL = '''
import torch
from genrep.generate import LatentSpec


class Null:
    """The same 16 smooth images for ever."""

    def __init__(self, side, device):
        self.latent, self.num_classes, self.image_shape = LatentSpec(dim=128), 0, side
        coarse = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.images = torch.nn.functional.interpolate(coarse, side, mode="bicubic").mul(0.4).to(device)

    def synthesize(self, z, y=None):
        return self.images.repeat(-(-len(z) // 16), 1, 1, 1)[: len(z)]


def small(device):
    return Null((32, 32), device)


def large(device):
    return Null((384, 512), device)
'''
CAR = """
[generator]
family = "stylegan2"
weights = "{weights}"

[image]
crop = [64, 0, 384, 512]
"""
CAR_CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64)  # of the blocks from 4 to 512 px
BATCHES = {  # on a CPU, on a GPU
    "null_generator:small": (64, 256),
    "null_generator:large": (2, 64),
    "stylegan2_fashion": (64, 256),
    "random_car.toml": (2, 32),
}
SHARD_BYTES = 32_000_000  # of the shards that storing is measured with
SAMPLE_SECONDS = 0.05


def make_car(folder: Path) -> None:
    """A recipe of StyleGAN2 cars with random weights."""
    import torch

    from genrep.generate.generators.checkpoint import Checkpoint, save_checkpoint
    from genrep.generate.generators.stylegan2.config import StyleGAN2Config
    from genrep.generate.generators.stylegan2.networks import StyleGAN2Network

    torch.manual_seed(0)
    network = StyleGAN2Network(StyleGAN2Config(z_dim=512, w_dim=512, resolution=512, channels=CAR_CHANNELS))
    save_checkpoint(Checkpoint(family="stylegan2", tensors=network.state_dict()), folder / "car.safetensors")
    (folder / "random_car.toml").write_text(CAR.format(weights=folder / "car.safetensors"))


class Bench:
    """A generator in a measuring process, and what is measured there."""

    def __init__(self, config: Any) -> None:
        import torch

        from genrep.generate.builder.pairs import OpenPairs
        from genrep.generate.builder.resolve import make_plan
        from genrep.generate.generators.load import open_generator
        from genrep.generate.recipe import load_recipe

        recipe = load_recipe(config.gen)
        loaded = open_generator(recipe, None, config.device)
        self.plan = make_plan(config, recipe, loaded)
        self.source = OpenPairs(config=config, plan=self.plan, device=config.device).around(recipe, loaded.generator)
        self.images = next(iter(self.source.batches(0, self.source.batch_size))).images[0]
        self.synchronize = torch.cuda.synchronize if config.device.startswith("cuda") else (lambda: None)

    def seconds_each(self, run: Callable[[], Any], seconds: float) -> float:
        """Of a call, after one to warm up."""
        run()
        self.synchronize()
        started, calls = time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - started < seconds:
            run()
            calls += 1
        self.synchronize()
        return (time.perf_counter() - started) / calls

    def stages(self, seconds: float) -> dict[str, float]:
        """Seconds per pair of each stage alone."""
        import torch

        from genrep.generate.generators.probe import largest_values
        from genrep.generate.pixels import to_uint8

        source, indices = self.source, np.arange(self.source.batch_size)
        z, y = torch.from_numpy(source.latents(indices)[0]).to(source.device), source.conditions.y(indices)
        y = None if y is None else torch.from_numpy(y).to(source.device)

        def convert() -> Any:
            levels = to_uint8(images, source.recipe.uint8, source.recipe.crop)
            return source.copier.to_host(levels), source.copier.to_host(largest_values(images))

        with torch.no_grad():
            images = source.generator.synthesize(z, y)
            runs = {
                "generation": (lambda: source.generator.synthesize(z, y), seconds, 2),
                "conversion+copy": (convert, seconds / 8, 2),
                "latents": (lambda: source.latents(indices), seconds / 8, 1),
            }
            found = {name: times * self.seconds_each(run, limit) / len(z) for name, (run, limit, times) in runs.items()}
        found["encoding"], found["writing"], _ = self.store(self.plan.fields[0]["encoding"])
        return found

    def store(self, encoding: str) -> tuple[float, float, float]:
        """Seconds to encode and to write a pair into a shard, and its bytes."""
        from genrep.datasets_manifest.schema import field_table
        from genrep.generate.builder.plan import pair_bytes
        from genrep.generate.builder.shard import ShardWriter, encode_jpeg
        from genrep.generate.builder.source import Batch
        from genrep.generate.pixels import jpeg_options

        images, size, options = self.images, len(self.images), jpeg_options(encoding)
        z = self.source.latents(np.arange(size))[0]
        table = field_table(images.shape[1:3], encoding, num_positives=1, z_anchor=z.shape[1:])
        repeats = max(1, int(SHARD_BYTES / pair_bytes(table) / size))
        batch = Batch(indices=np.arange(size), labels=np.full(size, -1), images=[images, images[::-1]], latents=[z, z])
        encode = 0.0
        if options is not None:
            encode = 2 * self.seconds_each(lambda: [encode_jpeg(image, options) for image in images], 0.2) / size
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            with ShardWriter(Path(folder) / "shard-00000.beton", table, repeats * size) as writer:
                for k in range(repeats):
                    writer.append(replace(batch, indices=batch.indices + k * size))
                written = writer.finish()["bytes"]
            whole = (time.perf_counter() - started) / (repeats * size)
        return encode, max(0.0, whole - encode), written / (repeats * size)

    def png(self, seconds: float) -> list[tuple[str, float, float]]:
        """Ways to store the generator's images, PNG files first: name, pairs/s in one process, bytes per pair."""
        from PIL import Image

        from genrep.generate.pixels import DEFAULT_JPEG

        with tempfile.TemporaryDirectory() as folder:
            count, started = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - started < seconds:
                Image.fromarray(self.images[count % len(self.images)]).save(f"{folder}/{count}.png")
                count += 1
            per_image = (time.perf_counter() - started) / count
            size = sum(entry.stat().st_size for entry in os.scandir(folder)) / count
        rows = [("PNG files", 1 / (2 * per_image), 2 * size)]
        for encoding in sorted({"raw", DEFAULT_JPEG, self.plan.fields[0]["encoding"]}):
            encode, write, stored = self.store(encoding)
            rows.append((f"shard, {encoding}", 1 / (encode + write), stored))
        return rows


BENCH: dict[str, Bench] = {}  # of this process


def measure(config: Any, name: str, seconds: float) -> Any:
    """Run in a measuring process."""
    if config.gen not in BENCH:
        BENCH.clear()
        BENCH[config.gen] = Bench(config)
    return getattr(BENCH[config.gen], name)(seconds)


def build(config: Any) -> tuple[float, float, float]:
    """Run in a process of its own: pairs/s, bytes per pair, peak memory in MB."""
    from genrep.generate import build_dataset

    with peak_memory() as peak:
        report = build_dataset(config)
    assert report.manifest is not None
    shards, pairs = report.manifest.shards, config.num_pairs
    ends = [(report.folder / shard.record_name).stat().st_mtime for shard in shards]
    taken = [float(shard.facts["seconds"]) for shard in shards]
    busy = sum(taken) / len(os.sched_getaffinity(0))
    if config.encoders or config.device.startswith("cuda"):
        busy = max(ends) - min(end - seconds for end, seconds in zip(ends, taken))
    shutil.rmtree(report.folder)
    return pairs / busy, sum(shard.bytes for shard in shards) / pairs, peak[0]


@contextlib.contextmanager
def peak_memory() -> Iterator[list[float]]:
    """MB of this process and its children together, at most, during the block; what they share counts once (PSS)."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            total = 0.0
            for pid in ["self", *(str(child.pid) for child in multiprocessing.active_children())]:
                with contextlib.suppress(OSError):  # it has just ended
                    found = re.search(r"^Pss:\s*(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
                    total += int(found[1]) / 1024 if found else 0.0
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def process() -> Executor:
    """One new process that runs what it is given."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def report_stages(rounds: list[dict[str, float]], cores: int, on_gpu: bool) -> tuple[float, float]:
    """Print the stages; returns the bare images/s of all cores, and the bound in images/s."""
    stages = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    slowest = max(stages, key=stages.__getitem__)
    shown = ", ".join(f"{name} {1000 * seconds:.3f}" for name, seconds in stages.items())
    click.echo(f"  stages         ms of a pair, each alone: {shown}; bottleneck: {slowest}")
    workers = 1 if on_gpu else cores
    storing = stages["encoding"] + stages["writing"]
    return 2 * workers / stages["generation"], 2 * workers / (stages["generation"] + storing)


def run_case(gen: str, folder: Path, device: str, seconds: float, rounds: int) -> None:
    """Print a case's lines."""
    from genrep.generate import BuildConfig

    on_gpu, cores = device.startswith("cuda"), len(os.sched_getaffinity(0))
    batch = BATCHES[gen][on_gpu]
    config = BuildConfig(gen=gen, out=folder / "out", batch_size=batch, device=device)
    null, builds = gen.startswith("null"), {"builder": config}
    if null and not on_gpu:
        builds["2 encoders"] = replace(config, encoders=2)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(process()) for _ in range(1 if on_gpu else cores)]
        found: list[dict[str, float]] = []
        built: dict[str, list[tuple[float, float, float]]] = {name: [] for name in builds}
        for _ in range(rounds):
            found += [task.result() for task in [w.submit(measure, config, "stages", seconds) for w in workers]]
            # As many pairs as all stages one after the other take `seconds` for, in two shards for each process.
            share = int(seconds / sum(found[-1].values()) / batch / 2) + 1
            for name, wanted in builds.items():
                shards = 2 * (len(workers) if not on_gpu else 8)
                size = {"num_pairs": share * batch * shards, "shard_size": str(share * batch)}
                with process() as builder:
                    built[name].append(builder.submit(build, replace(wanted, **size)).result())
        png = workers[0].submit(measure, config, "png", 1.0).result()
    click.echo(f"{gen}: {len(workers)} generating process(es), batches of {batch}")
    bare, bound = report_stages(found, cores, on_gpu)
    if not null:
        click.echo(f"  bare           {bare:9.2f} images/s")
    for name, runs in built.items():
        pairs_per_s, stored, peak = (statistics.median(column) for column in zip(*runs))
        line = f"  {name:14} {2 * pairs_per_s:9.2f} images/s"
        if not null:
            line += f", {2 * pairs_per_s / bare:.3f} of bare"
        if not on_gpu:
            line += f", {2 * pairs_per_s / bound:.3f} of the bound {bound:.2f}"
        click.echo(f"{line}; {stored:.0f} bytes per pair; peak {peak:.0f} MB")
    for name, pairs_per_s, stored in png:
        click.echo(
            f"  {name:20} {pairs_per_s:9.1f} pairs/s ({pairs_per_s / png[0][1]:6.1f} x), {stored:.0f} bytes/pair"
        )


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--case", "cases", multiple=True, type=click.Choice(["null", "stylegan2_fashion", "stylegan2_car"]))
@click.option("--seconds", default=5.0, show_default=True, help="Of the generator alone and of a build, about.")
@click.option("--rounds", default=3, show_default=True)
def main(device: str, cases: tuple[str, ...], seconds: float, rounds: int) -> None:
    """Print what the builder reaches of its generator's speed, and of PNG files'."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        (folder / "null_generator.py").write_text(NULL)
        if not cases or "stylegan2_car" in cases:
            make_car(folder)
        for gen in BATCHES:
            if not cases or any(case.removeprefix("stylegan2_") in gen for case in cases):
                run_case(gen, folder, device, seconds, rounds)


if __name__ == "__main__":
    main()
