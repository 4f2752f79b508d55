"""``genrep-generate dataset``: from settings to a finished dataset of pairs, or to an estimate of what it would take."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from genrep.datasets_manifest import MANIFEST_NAME
from genrep.datasets_manifest.beton_writer import stored_image
from genrep.datasets_manifest.manifest import Shard as ShardRecord
from genrep.devices import pick_device
from genrep.errors import RecipeError
from genrep.machine import cores
from genrep.progress import note

from ..generators.base import Generator
from ..plans.build_plan import BuildPlan, shard_bytes
from ..plans.config import BuildConfig, parse_part
from ..plans.resolve import check_options, make_plan, resolve_views
from ..recipes.recipe import Recipe, load_recipe
from ..sources.base import LaunchSource, Source
from ..sources.open import OpenPairs, change_of_build, is_learned, open_material, warning
from ..weights.load import open_generator
from .encoders import MAX_ENCODERS, encoders_here
from .output_folder import claim
from .run import ALL, BuildReport, Events, Rank, events_of, part_of, run_build, this_rank
from .shard import Job

PROBE_SECONDS = 10.0
PROBE_IMAGES = 32  # images per view that are encoded to estimate the size of a JPEG


@dataclass(frozen=True, kw_only=True)
class BuildEstimate:
    """What ``--plan`` prints."""

    num_pairs: int
    num_shards: int
    pairs_per_shard: int
    bytes: int
    pairs_per_s: float

    @property
    def seconds(self) -> float:
        """Seconds that the whole build takes on this machine."""
        return self.num_pairs / self.pairs_per_s


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """What the pipeline did in PROBE_SECONDS."""

    pairs_per_s: float
    shards: list[ShardRecord]  # the shards that it finished


def estimate(job: Job, source: Source, make_events: Callable[[Job], Events]) -> BuildEstimate:
    """Run the pipeline in a temporary folder for PROBE_SECONDS, counted from its first pairs, and extrapolate."""
    with tempfile.TemporaryDirectory(prefix="genrep-plan-") as folder:
        trial = replace(job, out=Path(folder) / "out")
        trial.out.mkdir()
        claim(trial.out, trial.plan)
        probe = _probe(make_events(trial), trial.plan.num_shards)
    return BuildEstimate(
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
        close = getattr(running, "close", None)  # closing the iterator stops the processes and removes temporary files
        if close is not None:
            close()
    return _Probe(pairs_per_s=pairs / (last - first) if pairs else float("inf"), shards=shards)


def _bytes(plan: BuildPlan, source: Source, made: list[ShardRecord]) -> float:
    """Bytes of all shards: measured on finished shards of the same length, otherwise as the plan estimates."""
    encoding = plan.fields[0]["encoding"]
    jpegs = 0.0 if encoding == "raw" else _jpeg_bytes(plan, source, encoding)

    def size(number: int) -> float:
        count = plan.shard(number).count
        known = [shard.bytes for shard in made if shard.count == count]
        return fmean(known) if known else shard_bytes(plan.fields, count, plan.page_size, jpegs)

    last = plan.num_shards - 1
    return last * size(0) + size(last)


def _jpeg_bytes(plan: BuildPlan, source: Source, encoding: str) -> float:
    """Mean JPEG bytes of the images of a pair, measured on the first pairs."""
    batch = next(iter(source.batches(0, min(PROBE_IMAGES, plan.num_pairs))))
    sizes = (len(stored_image(image, encoding)) for view in batch.images for image in view)
    return sum(sizes) / len(batch.indices)


def build_dataset(config: BuildConfig) -> BuildReport:
    """Build a dataset folder, or finish one that an earlier call with the same recipe left.

    Under torchrun every rank calls this and takes the next open shard; with ``part`` only this part's shards are built.

    Raises:
        RecipeError: the options name no possible dataset.
        ResumeError: the folder belongs to something else.
        GeneratorError: the generator failed; shards that were done stay done.
    """
    rank = this_rank()
    build = _prepare(config, rank, config.out)
    k, n = parse_part(config.part)
    if k == 0 and (rank is None or os.environ.get("RANK") == "0"):
        _warn_of_still_positives(build)
    share = rank.share(build.job.plan) if rank is not None else part_of(k, n) if n > 1 else ALL
    return run_build(build.job, build.events(build.job), share)


def _warn_of_still_positives(build: _Build) -> None:
    """Warn on stderr if a learned view repeats the anchor; filtered pairs, known only block by block, are not checked."""
    view, plan = resolve_views(build.config, build.recipe), build.job.plan
    there = (build.job.out / MANIFEST_NAME).exists()
    if there or build.config.filter is not None or not plan.recipe["num_positives"] or not is_learned(view):
        return
    if (said := warning(change_of_build(build.source(), int(plan.recipe["num_pairs"])))) is not None:
        note(f"warning: --views: {said}")


def plan_dataset(config: BuildConfig) -> BuildEstimate:
    """What ``build_dataset`` would make, and how long it would take here; leaves nothing behind."""
    build = _prepare(config, None, None)
    return estimate(build.job, build.source(), build.events)


@dataclass(frozen=True, kw_only=True)
class _Build:
    """A build that is ready to begin."""

    config: BuildConfig
    job: Job
    opener: OpenPairs
    recipe: Recipe
    generator: Generator
    alone: bool  # not one of torchrun's ranks

    def source(self) -> LaunchSource:
        """The source in this process."""
        return self.opener.around(self.recipe, self.generator)

    def events(self, job: Job) -> Events:
        """The way of building that suits the device: encoders beside one process on a GPU, a shard per core on CPUs."""
        shards = job.plan.num_shards
        on_gpu = job.device.startswith("cuda")
        encoders = self.config.encoders
        if encoders is None:
            encoders = encoders_here(MAX_ENCODERS if self.alone else 2) if on_gpu else 0
        processes = self.config.processes or (1 if on_gpu or encoders or not self.alone else cores())
        return events_of(job, self.source, min(processes, shards), min(encoders, shards))


def _prepare(config: BuildConfig, rank: Rank | None, out: Path | None) -> _Build:
    device = str(pick_device(config.device if rank is None else rank.device(config.device), RecipeError))
    recipe = load_recipe(config.gen)
    check_options(config)
    loaded = open_generator(recipe, config.weights, device, config.generator_options())
    material = open_material(config, recipe, loaded.generator, out)
    plan = make_plan(config, recipe, loaded, material)
    opener = OpenPairs(config=config, plan=plan, device=device, material=material)
    job = Job(
        out=config.out,
        plan=plan,
        open_source=opener,
        device=device,
        threads=config.threads,
        first_batch=opener.batch_size() if config.batch_size is None else None,
    )
    return _Build(config=config, job=job, opener=opener, recipe=recipe, generator=loaded.generator, alone=rank is None)
