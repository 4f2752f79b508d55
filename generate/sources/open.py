"""Where the sources of a build's pairs are put together: a generator, its views, and the filter around them if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..generators.base import Generator
from ..plans.config import BuildConfig
from ..plans.plan import Plan
from ..plans.resolve import resolve_filter, resolve_views
from ..recipes.recipe import Recipe, load_recipe
from ..weights.load import open_generator
from .base import LaunchSource
from .filtered import FilteredSource
from .pairs import PairSource

if TYPE_CHECKING:
    from ..views.filters import FilterSpec

LARGEST_BATCH = {"cpu": 64, "cuda": 256}  # that --batch-size auto begins with; beyond it nothing gets faster


def largest_batch(device: str, plan: Plan) -> int:
    """What ``--batch-size auto`` begins with: no more than a shard, since a short batch is padded."""
    return min(LARGEST_BATCH["cuda" if device.startswith("cuda") else "cpu"], int(plan.recipe["pairs_per_shard"]))


def through_filter(pairs: PairSource, filtering: FilterSpec | None) -> FilteredSource | None:
    """The pairs that a filter keeps; None without one. Raises WeightsError."""
    return None if filtering is None else FilteredSource(pairs, filtering.open(pairs.device))


@dataclass(frozen=True, kw_only=True)
class OpenPairs:
    """Opens the pair source of a build in any process."""

    config: BuildConfig
    plan: Plan
    device: str

    def __call__(self) -> LaunchSource:
        """Load the generator and be ready."""
        recipe = load_recipe(self.config.gen)
        loaded = open_generator(recipe, self.config.weights, self.device, self.config.generator_options())
        return self.around(recipe, loaded.generator)

    def around(self, recipe: Recipe, generator: Generator) -> LaunchSource:
        """The source of a generator that is loaded already."""
        import torch

        torch.set_num_threads(self.config.threads)
        device = torch.device(self.device)
        views = resolve_views(self.config, recipe)
        pairs = PairSource(self.plan, views, recipe, generator, batch_size=self.batch_size(), device=device)
        return through_filter(pairs, resolve_filter(self.config)) or pairs

    def batch_size(self) -> int:
        """What was asked for; with ``auto`` the first try."""
        return self.config.batch_size or largest_batch(self.device, self.plan)
