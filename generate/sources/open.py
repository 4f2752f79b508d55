"""Put together the source of a build's pairs: a generator, its views and, if there is one, the filter around them.

The first pairs of a learned view are checked for a visible change: a positive that rounds to its anchor's pixels is no second
view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..generators.base import Generator
from ..plans.build_plan import BuildPlan
from ..plans.config import BuildConfig
from ..plans.resolve import require_view_of_images, resolve_filter, resolve_views, resolve_weigh
from ..recipes.conditions import Material, make_conditions
from ..recipes.prompts import read_prompts
from ..recipes.recipe import Recipe, load_recipe
from ..views.base import View
from ..views.composed import HierarchicalView, MixView
from ..views.learned import NavigatorView
from ..weights.load import open_generator
from .anchors import open_anchors
from .base import LaunchSource
from .filtered import FilteredSource
from .pairs import PairSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..views.filters import FilterSpec


LARGEST_BATCH = {"cpu": 64, "cuda": 256}  # first try of --batch-size auto; larger batches are no faster


def largest_batch(device: str, plan: BuildPlan) -> int:
    """The first try of ``--batch-size auto``: no more than a shard, since a short batch is padded."""
    return min(LARGEST_BATCH["cuda" if device.startswith("cuda") else "cpu"], int(plan.recipe["pairs_per_shard"]))


def through_filter(pairs: PairSource, filtering: FilterSpec | None) -> FilteredSource | None:
    """The pairs that a filter keeps; None without one. Raises WeightsError."""
    return None if filtering is None else FilteredSource(pairs, filtering.open(pairs.device))


def open_material(config: BuildConfig, recipe: Recipe, generator: Generator, out: Path | None = None) -> Material:
    """The prompts and real anchors that a build is given. ``out`` keeps what is found of the anchors' files.

    Raises:
        RecipeError, DataError: the prompts or the images cannot be read.
    """
    if config.anchors is not None:
        require_view_of_images(config, recipe, generator)
    prompts = None if config.prompts is None else read_prompts(config.prompts)
    anchors = None if config.anchors is None else open_anchors(config, generator.image_shape, out)
    return Material(prompts=prompts, anchors=anchors)


@dataclass(frozen=True, kw_only=True)
class OpenPairs:
    """Opens the pair source of a build in any process."""

    config: BuildConfig
    plan: BuildPlan
    device: str
    material: Material = field(default_factory=Material)

    def __call__(self) -> LaunchSource:
        """Load the generator and open the source."""
        recipe = load_recipe(self.config.gen)
        loaded = open_generator(recipe, self.config.weights, self.device, self.config.generator_options())
        return self.around(recipe, loaded.generator)

    def around(self, recipe: Recipe, generator: Generator) -> LaunchSource:
        """The source of a generator that is loaded already."""
        import torch

        torch.set_num_threads(self.config.threads)
        device = torch.device(self.device)
        views = resolve_views(self.config, recipe)
        pairs = PairSource(
            self.plan,
            views,
            recipe,
            generator,
            make_conditions(tuple(self.plan.recipe["classes"]), generator, self.material),
            batch_size=self.batch_size(),
            device=device,
            anchors=self.material.anchors,
            weigher=None if (weighing := resolve_weigh(self.config)) is None else weighing.open(device),
        )
        return through_filter(pairs, resolve_filter(self.config)) or pairs

    def batch_size(self) -> int:
        """The batch size that was given; with ``auto`` the first try."""
        return self.config.batch_size or largest_batch(self.device, self.plan)


LEAST_CHANGE = 1.0  # level of 255: the step of uint8 pixels
BUILD_ANCHORS = 8


def mean_change(anchors: NDArray[np.uint8], positives: NDArray[np.uint8]) -> float:
    """Mean of |positive - anchor| over all values, in levels of 255. Shapes: ``(B, H, W, 3)`` each."""
    return float(np.abs(anchors.astype(np.int16) - positives.astype(np.int16)).mean())


def is_learned(view: View) -> bool:
    """Whether the view is a navigator, or contains one."""
    if isinstance(view, HierarchicalView):
        return any(is_learned(part) for _, part in view.moved)
    if isinstance(view, MixView):
        return any(is_learned(part.view) for part in view.parts)
    return isinstance(view, NavigatorView)


def change_of_build(source: LaunchSource, num_pairs: int) -> float:
    """``mean_change`` of the first pairs of a build, whose views are learned. torch's random stream is left as it was."""
    count = min(BUILD_ANCHORS, num_pairs, source.batch_size)
    import torch

    with torch.random.fork_rng():
        batch = source.launch(np.arange(count, dtype=np.int64)).result()
    return mean_change(np.stack(list(batch.images[0])), np.stack(list(batch.images[1])))


def warning(change: float) -> str | None:
    """A warning if the pixels of positives hardly differ from their anchors'; None if they differ."""
    if change >= LEAST_CHANGE:
        return None
    return (
        f"the navigator changes pixels by {change:.2f} of 255 levels on average, less than rounding can show: anchor "
        "and positive are the same image. Fit it longer (--samples), with a larger --max-distance or --lr-walk, or with "
        "--init torch"
    )
