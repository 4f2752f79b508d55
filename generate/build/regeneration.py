"""Follow a manifest's recipe again, for whole shards or single pairs. The result is exactly the recipe's, or an error.

A manifest may be a stranger's. Its recipe is data: it names a generator by a name that this package knows, or by one that
the user gives; the weights that are read must have the digest that it states; and the plan that comes of it must be the
manifest's recipe again, key for key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.across import RegenerationConfig
from genrep.datasets_manifest.beton_writer import stored_image
from genrep.datasets_manifest.finish import done_shard
from genrep.datasets_manifest.layout import in_beton
from genrep.devices import pick_device
from genrep.errors import RecipeError
from genrep.machine import cores
from genrep.progress import Progress

from ..plans.build_plan import BuildPlan
from ..plans.config import BuildConfig
from ..plans.resolve import build_config, draw_one, make_plan, recipe_of, recipes_faults, short
from ..recipes.conditions import Material
from ..recipes.recipe import Recipe
from ..sources.base import Batch, LaunchSource, PendingBatch
from ..sources.open import OpenPairs, largest_batch, open_material
from ..weights.load import LoadedGenerator, open_generator
from .encoders import encoders_here
from .output_folder import claimed_folder, differences
from .run import Events, events_of
from .shard import Job, remove_leftovers

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BATCH, MAX_THREADS = 4096, 256  # settings that are taken from a manifest


def build_shards(manifest: dict[str, Any], numbers: Sequence[int], out: Path, config: RegenerationConfig) -> None:
    """See ``genrep.across.build_shards``."""
    again = _Again.of(manifest, config)
    with claimed_folder(out, again.plan, shared=False):
        remove_leftovers(out)
        todo = [number for number in numbers if done_shard(out, again.plan.recipe, number) is None]
        wanted = sum(again.plan.shard(number).count for number in todo)
        try:
            with Progress(wanted, "pair", f"making {len(todo)} shards again") as progress:
                for kind, value in again.events(out, len(todo))(iter(todo)):
                    if kind == "pairs":
                        progress.update(value)
        except BaseException:
            remove_leftovers(out)
            raise


def stored_pairs(
    manifest: dict[str, Any], indices: Sequence[int], config: RegenerationConfig
) -> Iterator[tuple[int, dict[str, NDArray[np.uint8]]]]:
    """See ``genrep.across.stored_pairs``."""
    again = _Again.of(manifest, config)
    source = again.source()
    for size in sorted(set(again.sizes)):
        of_size = [i for i in sorted(indices) if again.sizes[i // again.per_shard] == size]
        source.set_batch_size(size)
        for start in range(0, len(of_size), size):
            batch = source.launch(np.array(of_size[start : start + size], dtype=np.int64)).result()
            for row, index in enumerate(batch.indices.tolist()):
                yield index, _stored(again.plan, batch, row)


def _stored(plan: BuildPlan, batch: Batch, row: int) -> dict[str, NDArray[np.uint8]]:
    """The bytes of what a shard holds of a pair but its index, in the order of the plan's fields."""
    table = [field for field in in_beton(plan.fields) if field["name"] != "index"]
    names = [field["name"] for field in in_beton(plan.fields)]
    columns = dict(zip(names, batch.columns(plan.fields)))
    kinds = {"float32": "<f4", "float": "<f8", "int": "<i8"}
    found: dict[str, NDArray[np.uint8]] = {}
    for field in table:
        value = columns[field["name"]][row]
        if field["kind"] == "image":
            found[field["name"]] = np.frombuffer(stored_image(value, field["encoding"]), dtype=np.uint8)
        else:
            found[field["name"]] = np.ascontiguousarray(value, dtype=kinds[field["kind"]]).reshape(-1).view(np.uint8)
    return found


@dataclass(frozen=True, kw_only=True)
class _OpenAgain:
    """Opens the source of the regenerated pairs, in any process."""

    build: BuildConfig
    recipe: Recipe
    plan: BuildPlan
    device: str
    sizes: tuple[int, ...]  # batch size, by shard
    material: Material

    def __call__(self) -> _AsRecorded:
        loaded = open_generator(self.recipe, self.build.weights, self.device, self.build.generator_options())
        return self.around(loaded)

    def around(self, loaded: LoadedGenerator) -> _AsRecorded:
        """The source of a generator that is loaded already."""
        pairs = OpenPairs(config=self.build, plan=self.plan, device=self.device, material=self.material)
        inner = pairs.around(self.recipe, loaded.generator)
        return _AsRecorded(inner, self.sizes, int(self.plan.recipe["pairs_per_shard"]))


class _AsRecorded:
    """A source whose batches have, in each shard, the size that the shard was made with: its bytes depend on it."""

    def __init__(self, inner: LaunchSource, sizes: tuple[int, ...], per_shard: int) -> None:
        self.inner, self.sizes, self.per_shard = inner, sizes, per_shard
        self.inner.set_batch_size(sizes[0])

    @property
    def batch_size(self) -> int:
        """Size of the batches that are being made."""
        return self.inner.batch_size

    def set_batch_size(self, size: int) -> None:
        """See ``LaunchSource.set_batch_size``."""
        self.inner.set_batch_size(size)

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source.batches``."""
        self.set_batch_size(self.sizes[first // self.per_shard])
        yield from self.inner.batches(first, count)

    def ranges(self, first: int, count: int) -> Iterator[NDArray[np.int64]]:
        """See ``LaunchSource.ranges``; only for shards of one size."""
        return self.inner.ranges(first, count)

    def launch(self, indices: NDArray[np.int64]) -> PendingBatch:
        """See ``LaunchSource.launch``."""
        return self.inner.launch(indices)

    def halve_batch(self) -> None:
        """Never called: a batch size that does not fit in memory is an error here."""
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class _Again:
    """A manifest's recipe, ready to be followed."""

    opener: _OpenAgain
    loaded: LoadedGenerator
    plan: BuildPlan
    sizes: tuple[int, ...]
    device: str
    threads: int
    processes: int | None

    @property
    def per_shard(self) -> int:
        return int(self.plan.recipe["pairs_per_shard"])

    @classmethod
    def of(cls, manifest: dict[str, Any], config: RegenerationConfig) -> _Again:
        """Resolve the recipe. Raises RecipeError or WeightsError if it cannot be followed exactly here."""
        recipe = recipe_of(manifest["recipe"], config)
        device = str(pick_device(_device(manifest["shards"], config.device), RecipeError))
        threads = _number(manifest["shards"][0].get("threads"), MAX_THREADS) or 1
        build = build_config(manifest["recipe"], config, threads)
        with recipes_faults():
            loaded = open_generator(recipe, build.weights, device, build.generator_options())
            material = open_material(build, recipe, loaded.generator)
            plan = make_plan(build, recipe, loaded, material)
            draw_one(build, recipe, loaded)
        if plan.recipe != manifest["recipe"]:
            raise RecipeError(short(f"not the manifest's recipe: {differences(manifest['recipe'], plan.recipe)}"))
        if plan.fields != manifest["fields"]:
            raise RecipeError("its fields are not those that its recipe makes")
        facts = dict(plan.facts)
        if facts.get("page_size") != manifest["build"].get("page_size"):
            facts.pop("page_size", None)  # written by a version that gave all shards the usual page
        plan = replace(plan, classes=tuple(manifest["classes"]), facts=facts)
        usual = largest_batch(device, plan)
        sizes = tuple(
            config.batch_size or _number(shard.get("batch_size"), MAX_BATCH) or usual for shard in manifest["shards"]
        )
        opener = _OpenAgain(build=build, recipe=recipe, plan=plan, device=device, sizes=sizes, material=material)
        return cls(
            opener=opener,
            loaded=loaded,
            plan=plan,
            sizes=sizes,
            device=device,
            threads=threads,
            processes=config.processes,
        )

    def source(self) -> _AsRecorded:
        """The source in this process."""
        return self.opener.around(self.loaded)

    def events(self, out: Path, shards: int) -> Events:
        """The way of building that suits the device, as ``dataset`` chooses it; encoders want batches of one size."""
        job = Job(out=out, plan=self.plan, open_source=self.opener, device=self.device, threads=self.threads)
        most, on_gpu = max(shards, 1), self.device.startswith("cuda")
        processes = self.processes or (1 if on_gpu else cores())
        encoders = min(encoders_here(), most) if on_gpu and len(set(self.sizes)) == 1 else 0
        return events_of(job, self.source, min(processes, most), encoders)


def _device(shards: list[dict[str, Any]], wanted: str) -> str:
    """``auto`` becomes the kind of device that the shards were made on, unless they were made on several."""
    kinds = {str(shard.get("device")).partition(":")[0] for shard in shards}
    if wanted != "auto" or kinds != {"cpu"}:
        return wanted
    return "cpu"


def _number(value: Any, most: int) -> int | None:
    """The stranger's number if it is sensible, otherwise None."""
    return value if type(value) is int and 1 <= value <= most else None
