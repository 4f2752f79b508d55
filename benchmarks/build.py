"""The builder against its generator alone, and against PNG files, in one run.

    python benchmarks/build.py [--device cuda] [--case null] [--case stylegan2_fashion] [--case stylegan2_car]

Cases: a generator that costs nothing, so that the pipeline's own ceiling shows; the embedded generator; StyleGAN2 in the shape
of the published cars (config-f, 512x384) with random weights. Each stage is measured alone, in the processes that generate.

On CPUs as many processes as cores (of one thread each), side by side, build a shard each, with the generator alone after every
batch, so that both see the same machine; speeds are by the clock and by CPU time, which other users of the machine change less.
On a GPU the builder's speed is that of a whole build, where one process generates and others encode, from the first shard's
start to the last one's record. Such builds, small ones, give the peak memory: RSS of the main process + of the largest other.
Bound (CPU): what the cores could do if storing cost were added to generation's, 2 cores / (generating + storing) images/s, with
the seconds in which one process generates and stores a pair; storing: encoding, writing, fsync, digests.

PNG: the same uint8 images written as files through Pillow by one process, as GenRep did, against shards written by one process.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from genrep.datasets_manifest.beton_writer import stored_image
from genrep.datasets_manifest.schema import field_table
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.build.dataset import MAX_ENCODERS
from genrep.generate.build.output_folder import claim
from genrep.generate.build.shard import Job, ShardWriter, build_shard
from genrep.generate.generators.base import Checkpoint, save_checkpoint
from genrep.generate.generators.probe import largest_values
from genrep.generate.generators.stylegan2.network_config import StyleGAN2Config
from genrep.generate.generators.stylegan2.networks import StyleGAN2Network
from genrep.generate.pixels import DEFAULT_JPEG, to_uint8
from genrep.generate.plans.build_plan import page_size, pair_bytes
from genrep.generate.plans.resolve import make_plan
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.sources.open import OpenPairs
from genrep.generate.weights.load import open_generator

NULL = """
import torch
from genrep.generate import LatentSpec


class Null:  # the same 16 smooth images for ever
    def __init__(self, height, width, device):
        self.latent, self.num_classes, self.image_shape = LatentSpec(dim=128), 0, (height, width)
        coarse = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").mul(0.4).to(device)

    def synthesize(self, z, y=None):
        return self.images[torch.arange(len(z), device=z.device) % 16]


small = lambda device: Null(32, 32, device)
large = lambda device: Null(384, 512, device)
"""
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
Times = NDArray[np.float64]


def make_car(folder: Path) -> None:
    """A recipe of StyleGAN2 cars with random weights."""
    torch.manual_seed(0)
    network = StyleGAN2Network(StyleGAN2Config(z_dim=512, w_dim=512, resolution=512, channels=CAR_CHANNELS))
    save_checkpoint(Checkpoint(family="stylegan2", tensors=network.state_dict()), folder / "car.safetensors")
    (folder / "random_car.toml").write_text(CAR.format(weights=folder / "car.safetensors"))


def now() -> Times:
    """The clock, and this process's CPU time."""
    return np.array([time.perf_counter(), time.process_time()])


class Bench:
    """A generator in a measuring process, and what is measured there. Times are [by the clock, CPU time]."""

    def __init__(self, config: BuildConfig) -> None:
        recipe = load_recipe(config.gen)
        loaded = open_generator(recipe, None, config.device)
        self.plan_of = lambda **sizes: make_plan(replace(config, **sizes), recipe, loaded)
        self.plan = self.plan_of()
        self.source = OpenPairs(config=config, plan=self.plan, device=config.device).around(recipe, loaded.generator)
        self.batch = next(iter(self.source.batches(0, self.source.batch_size)))
        self.synchronize = torch.cuda.synchronize if config.device.startswith("cuda") else (lambda: None)
        y = self.batch.rows if self.batch.rows is not None else self.batch.labels
        inputs = torch.from_numpy(self.batch.latents[0]).to(config.device), torch.from_numpy(y).to(config.device)
        generator = self.source.generator
        self.generate = lambda: generator.synthesize(*inputs[: 1 + bool(generator.num_classes)])

    def each(self, run: Callable[[], Any], seconds: float) -> Times:
        """Of a call per image (or pair) of the batch, after one to warm up."""
        run()
        self.synchronize()
        started, calls = now(), 0
        while calls == 0 or time.perf_counter() - started[0] < seconds:
            run()
            calls += 1
        self.synchronize()
        return (now() - started) / calls / self.source.batch_size

    def beside(self, seconds: float) -> tuple[Times, Times]:
        """Times per pair of the generator alone and of the builder, batch by batch in turns."""
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            size = self.source.batch_size
            count = size * (1 + int(seconds / size / 4 / self.each(self.generate, 0.1)[0]))
            plan = self.plan_of(num_pairs=count, shard_size=str(count))
            claim(Path(folder), plan)
            job = Job(out=Path(folder), plan=plan, open_source=lambda: self.source, device="cpu", threads=1)
            bare, built, events, kind = np.zeros(2), np.zeros(2), build_shard(job, self.source, 0), "pairs"
            while kind == "pairs":
                started = now()
                kind, _ = next(events)
                built += now() - started
                if kind == "pairs":
                    started = now()
                    _ = self.generate(), self.generate()
                    bare += now() - started
        return bare / count, built / count

    def stages(self, seconds: float) -> dict[str, Times]:
        """Times per pair of each stage alone."""
        source, to_host = self.source, self.source.copier.to_host

        def convert() -> Any:
            return to_host(to_uint8(images, source.recipe.uint8, source.recipe.crop)), to_host(largest_values(images))

        with torch.no_grad():
            images = self.generate()
            found = {"generation": 2 * self.each(self.generate, seconds)}
            found["conversion+copy"] = 2 * self.each(convert, seconds / 8)
            found["latents"] = self.each(lambda: source.latents(self.batch.indices), seconds / 8)
        found["encoding"], found["writing"], _ = self.store(self.plan.fields[0]["encoding"])
        return found

    def store(self, encoding: str) -> tuple[Times, Times, float]:
        """Times of encoding and of writing a pair into a shard, and its bytes."""
        images, z = self.batch.images, self.batch.latents[0]
        table = field_table(images[0].shape[1:3], encoding, num_positives=1, z_anchor=z.shape[1:])
        repeats = max(1, int(SHARD_BYTES / pair_bytes(table) / len(z)))
        batch, encode = replace(self.batch, latents=[z, z], rows=None), np.zeros(2)
        if encoding != "raw":
            encode = self.each(lambda: [stored_image(image, encoding) for view in images for image in view], 0.2)
        with tempfile.TemporaryDirectory() as folder:
            started = now()
            with ShardWriter(Path(folder) / "shard-00000.beton", table, repeats * len(z), page_size(table)) as writer:
                for k in range(repeats):
                    writer.append(replace(batch, indices=batch.indices + k * len(z)))
                written = writer.finish()["bytes"]
            whole = (now() - started) / (repeats * len(z))
        return encode, np.maximum(0, whole - encode), written / (repeats * len(z))

    def png(self, seconds: float) -> list[tuple[str, Times, float]]:
        """Ways to store a pair of the generator's images, PNG files first: name, times, bytes."""
        with tempfile.TemporaryDirectory() as folder:
            count, started = 0, now()
            while count == 0 or time.perf_counter() - started[0] < seconds:
                for view in self.batch.images:
                    Image.fromarray(view[count // 2 % len(view)]).save(f"{folder}/{count}.png")
                    count += 1
            taken, size = (now() - started) / count, sum(entry.stat().st_size for entry in os.scandir(folder)) / count
        rows = [("PNG files", 2 * taken, 2 * size)]
        for encoding in ("raw", DEFAULT_JPEG):
            encode, write, stored = self.store(encoding)
            rows.append((f"shard, {encoding}", encode + write, stored))
        return rows


bench = functools.lru_cache(1)(Bench)  # a measuring process opens it once


def measure(config: BuildConfig, name: str, *arguments: Any) -> Any:
    """Run in a measuring process."""
    return getattr(bench(config), name)(*arguments)


def whole_build(config: BuildConfig) -> tuple[float, float, float]:
    """Run in a process of its own: images/s, peak memory of this process and of the largest other in MB."""
    report = build_dataset(config)
    assert report.manifest is not None
    ends = [(report.folder / shard.record_name).stat().st_mtime for shard in report.manifest.shards]
    starts = [end - float(shard.facts["seconds"]) for end, shard in zip(ends, report.manifest.shards)]
    shutil.rmtree(report.folder)
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return 2 * config.num_pairs / (max(ends) - min(starts)), *peaks


def process() -> Executor:
    """A new process that runs what it is given."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def report_beside(found: list[tuple[Times, Times]], stages: dict[str, Times], cores: int, null: bool) -> None:
    """Print the builder's speed on CPUs, and what it makes of its generator's and of the bound."""
    bare, built = (np.mean(column, axis=0) for column in zip(*found))
    bound = bare + stages["encoding"] + stages["writing"]
    for name, times in (("builder", built), *([] if null else [("bare", bare), ("bound", bound)])):
        speed, share = 2 * cores / times, times / built
        part = f"; the builder makes {share[0]:.3f} ({share[1]:.3f}) of it" if name != "builder" else ""
        click.echo(f"  {name:18} {speed[0]:9.2f} images/s ({speed[1]:.2f} by CPU time){part}")


def report_whole(config: BuildConfig, seconds: float, per_pair: float, bare: float) -> None:
    """Print what small builds as users start them reach: as the builder chooses, and, on CPUs, with two encoders."""
    on_gpu, cores = config.device.startswith("cuda"), len(os.sched_getaffinity(0))
    num_shards = 16 if on_gpu else 2 * cores
    count = config.batch_size * (1 + int(seconds / per_pair / config.batch_size / num_shards))
    config = replace(config, num_pairs=num_shards * count, shard_size=str(count))
    for name, encoders in (("whole", None), *([] if on_gpu else [("whole, 2 encoders", 2)])):
        with process() as builder:
            speed, main, other = builder.submit(whole_build, replace(config, encoders=encoders)).result()
        ratio = f", {speed / bare:.3f} of bare" if on_gpu else ""
        click.echo(f"  {name:18} {speed:9.2f} images/s{ratio}; peak memory {main:.0f} + {other:.0f} MB")


def run_case(gen: str, folder: Path, device: str, seconds: float) -> None:
    """Print a case's lines."""
    on_gpu, cores = device.startswith("cuda"), len(os.sched_getaffinity(0))
    config = BuildConfig(gen=gen, out=folder / "out", batch_size=BATCHES[gen][on_gpu], device=device)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(process()) for _ in range(1 if on_gpu else cores)]

        def on_all(*arguments: Any) -> list[Any]:
            return [task.result() for task in [worker.submit(measure, config, *arguments) for worker in workers]]

        rows = on_all("stages", seconds if on_gpu else seconds / 4)
        stages: dict[str, Times] = {name: np.mean([row[name] for row in rows], axis=0) for name in rows[0]}
        found = [] if on_gpu else on_all("beside", 2 * seconds)
        stored = workers[0].submit(measure, config, "png", 1.0).result()
    click.echo(f"{gen} on {device}: {len(workers)} generating process(es), batches of {config.batch_size}")
    click.echo("  ms of a pair       " + ", ".join(f"{name} {1000 * times[0]:.3f}" for name, times in stages.items()))
    at_a_time = {"encoding": min(cores - 1, MAX_ENCODERS), "writing": min(cores - 1, MAX_ENCODERS)} if on_gpu else {}
    click.echo(f"  bottleneck         {max(stages, key=lambda name: float(stages[name][0]) / at_a_time.get(name, 1))}")
    bare = 2 / float(stages["generation"][0])
    if on_gpu:
        click.echo(f"  bare               {bare:9.2f} images/s")
    else:
        report_beside(found, stages, cores, null=gen.startswith("null"))
    report_whole(config, seconds, sum(float(times[0]) for times in stages.values()) / len(workers), bare)
    for name, times, size in stored:
        ratio = stored[0][1] / times
        line = f"{1 / times[0]:9.2f} pairs/s, {ratio[0]:.1f} x PNG files ({ratio[1]:.1f} x); {size:.0f} bytes per pair"
        click.echo(f"  {name:18} {line}")


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--case", "cases", multiple=True, type=click.Choice(["null", "stylegan2_fashion", "stylegan2_car"]))
@click.option("--seconds", default=6.0, show_default=True, help="Of the generator alone and of a build, about.")
def main(device: str, cases: tuple[str, ...], seconds: float) -> None:
    """Print what the builder reaches of its generator's speed, and of PNG files'."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        (folder / "null_generator.py").write_text(NULL)
        if not cases or "stylegan2_car" in cases:
            with process() as maker:  # so that this one stays small, and none looks larger than it is
                maker.submit(make_car, folder).result()
        for gen in BATCHES:
            if not cases or any(case.removeprefix("stylegan2_") in gen for case in cases):
                run_case(gen, folder, device, seconds)


if __name__ == "__main__":
    main()
