"""``genrep-generate dataset``: from options to a finished dataset of pairs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from genrep.datasets_manifest import MANIFEST_NAME
from genrep.devices import pick_device
from genrep.errors import RecipeError
from genrep.progress import note

from ..generators.base import Generator
from ..plans.config import BuildConfig, parse_part
from ..plans.resolve import check_options, make_plan, resolve_views
from ..recipes.recipe import Recipe, load_recipe
from ..sources.base import LaunchSource
from ..sources.open import OpenPairs
from ..sources.visibility import change_of_build, is_learned, warning
from ..weights.load import open_generator
from .encoders import MAX_ENCODERS, encoders_here
from .estimate import Estimate, estimate
from .run import BuildReport, Events, events_of, run_build
from .shard import Job
from .shares import ALL, Rank, part_of, this_rank


def build_dataset(config: BuildConfig) -> BuildReport:
    """Build a dataset folder, or finish one that an earlier call with the same recipe left.

    Under torchrun every rank calls this and takes the next open shard; with ``part`` only this part's shards are built.

    Raises:
        RecipeError: the options name no possible dataset.
        ResumeError: the folder belongs to something else.
        GeneratorError: the generator failed; shards that were done stay done.
    """
    rank = this_rank()
    build = _prepare(config, rank)
    k, n = parse_part(config.part)
    if k == 0 and (rank is None or os.environ.get("RANK") == "0"):
        _warn_of_still_positives(build)
    share = rank.share(build.job.plan) if rank is not None else part_of(k, n) if n > 1 else ALL
    return run_build(build.job, build.events(build.job), share)


def _warn_of_still_positives(build: _Build) -> None:
    """Say on stderr if a learned view makes the anchor again. Of a filter's pairs nothing is known before a whole block."""
    view, plan = resolve_views(build.config, build.recipe), build.job.plan
    there = (build.job.out / MANIFEST_NAME).exists()
    if there or build.config.filter is not None or not plan.recipe["num_positives"] or not is_learned(view):
        return
    if (said := warning(change_of_build(build.source(), int(plan.recipe["num_pairs"])))) is not None:
        note(f"warning: --views: {said}")


def plan_dataset(config: BuildConfig) -> Estimate:
    """What ``build_dataset`` would make, and how long it would take here; leaves nothing behind."""
    build = _prepare(config, None)
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
        cores, shards = len(os.sched_getaffinity(0)), job.plan.num_shards
        on_gpu = job.device.startswith("cuda")
        encoders = self.config.encoders
        if encoders is None:
            encoders = encoders_here(MAX_ENCODERS if self.alone else 2) if on_gpu else 0
        processes = self.config.processes or (1 if on_gpu or encoders or not self.alone else cores)
        return events_of(job, self.source, min(processes, shards), min(encoders, shards))


def _prepare(config: BuildConfig, rank: Rank | None) -> _Build:
    device = str(pick_device(config.device if rank is None else rank.device(config.device), RecipeError))
    recipe = load_recipe(config.gen)
    check_options(config)
    loaded = open_generator(recipe, config.weights, device, config.generator_options())
    plan = make_plan(config, recipe, loaded)
    opener = OpenPairs(config=config, plan=plan, device=device)
    job = Job(
        out=config.out,
        plan=plan,
        open_source=opener,
        device=device,
        threads=config.threads,
        first_batch=opener.batch_size() if config.batch_size is None else None,
    )
    return _Build(config=config, job=job, opener=opener, recipe=recipe, generator=loaded.generator, alone=rank is None)
