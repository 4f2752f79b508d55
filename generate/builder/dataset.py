"""The whole of a build: claim the folder, build what is open, look at the result, write the manifest."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from genrep.datasets_manifest.manifest import Manifest, build_manifest, read_manifest, write_manifest
from genrep.datasets_manifest.manifest import Shard as ShardRecord
from genrep.errors import RecipeError
from genrep.files import locked_folder
from genrep.progress import Progress

from ..generators.load import LoadedGenerator, open_generator
from ..recipe import Recipe, load_recipe
from .contact_sheet import write_contact_sheet
from .folder import SHEET_NAME, DatasetFolder
from .plan import BuildConfig, Plan, make_plan
from .worker import Job, WorkerPool, build_here, make_source

PACKAGES = ("genrep", "torch", "numpy", "ffcv", "opencv-python", "pillow")


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    folder: Path
    manifest: Manifest
    sheet: Path
    built_pairs: int  # by this call; 0 if the work was found done
    seconds: float


def build_dataset(config: BuildConfig) -> BuildReport:
    """Build a dataset folder, or finish one that an earlier call with the same recipe left.

    Raises:
        RecipeError: the options name no possible dataset.
        ResumeError: the folder belongs to something else.
        GeneratorError: the generator failed; shards that were done stay done.
    """
    started = time.monotonic()
    device = choose_device(config.device)
    recipe = load_recipe(config.gen)
    loaded = open_generator(recipe, config.weights, device)
    plan = make_plan(config, recipe, loaded)
    with locked_folder(config.out) as descriptor:
        folder = DatasetFolder(config.out, descriptor)
        folder.claim(plan)
        folder.remove_leftovers()
        if folder.manifest_path.exists():
            manifest = read_manifest(config.out)
            return BuildReport(
                folder=config.out, manifest=manifest, sheet=config.out / SHEET_NAME, built_pairs=0, seconds=0.0
            )
        done = folder.done(plan)
        built_pairs = plan.num_pairs - sum(record.count for record in done.values())
        folder.share()
        _build_open_shards(Job(config=config, plan=plan, device=device), folder, done, recipe, loaded)
        write_contact_sheet(config.out, plan)
        manifest = _write_manifest(config, plan, recipe, loaded, done)
    seconds = time.monotonic() - started
    return BuildReport(
        folder=config.out, manifest=manifest, sheet=config.out / SHEET_NAME, built_pairs=built_pairs, seconds=seconds
    )


def choose_device(name: str) -> str:
    """Resolve ``auto``, and refuse a device that is not there, in one line."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"--device {name}: not usable here ({str(error).splitlines()[0]})") from None
    return name


def _build_open_shards(
    job: Job, folder: DatasetFolder, done: dict[int, ShardRecord], recipe: Recipe, loaded: LoadedGenerator
) -> None:
    """Build what is not done, adding to ``done``; on any way out, say how far it got and leave no temporary file."""
    plan = job.plan
    todo = [number for number in range(plan.num_shards) if number not in done]
    finished_pairs = sum(record.count for record in done.values())
    try:
        with Progress(plan.num_pairs, "pair", f"building {job.config.out}", initial=finished_pairs) as progress:
            for kind, value in _events(job, todo, recipe, loaded):
                if kind == "pairs":
                    progress.update(value)
                else:
                    done[value.first_index // plan.pairs_per_shard] = value
    except BaseException:
        folder.remove_leftovers()
        print(f"{len(done)} of {plan.num_shards} shards are done; the same command goes on from there", file=sys.stderr)
        raise


def _events(job: Job, todo: list[int], recipe: Recipe, loaded: LoadedGenerator) -> Iterator[tuple[str, Any]]:
    processes = job.config.processes
    if processes is None:
        processes = 1 if job.device.startswith("cuda") else len(os.sched_getaffinity(0))
    processes = min(processes, len(todo))
    if processes > 1:
        return WorkerPool(job, processes).run(todo)
    return build_here(job, make_source(job, recipe, loaded.generator), todo)


def _write_manifest(
    config: BuildConfig, plan: Plan, recipe: Recipe, loaded: LoadedGenerator, done: dict[int, ShardRecord]
) -> Manifest:
    build = {
        "batch_size": config.batch_size,
        "threads": config.threads,
        "device": sorted({record.facts["device"] for record in done.values()}),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "seconds": round(sum(record.facts["seconds"] for record in done.values()), 3),
        "weights": loaded.weights_facts,
        "licence": recipe.licence,
    }
    shards = [done[number] for number in range(plan.num_shards)]
    manifest = build_manifest(
        recipe=plan.recipe, fields=plan.field_table(), classes=list(plan.classes), shards=shards, build=build
    )
    write_manifest(config.out, manifest)
    return manifest


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
