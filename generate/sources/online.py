"""Batches of pairs from a generator, on its device: the samples of a dataset that is never written."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.datasets_manifest.schema import WEIGHT_FIELD
from genrep.errors import RecipeError
from genrep.files import digest_json

from ..generators.probe import require_sane
from ..plans.build_plan import BuildPlan
from ..plans.config import BuildConfig
from ..plans.resolve import make_plan, resolve_filter, resolve_views, resolve_weigh
from ..recipes.conditions import make_conditions
from ..recipes.recipe import load_recipe
from ..weights.load import open_generator
from .filtered import FilteredSource
from .open import open_material, through_filter
from .pairs import Copier, Inputs, OnDevice, PairSource

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


BATCHES_AHEAD = 2


class Latents:
    """Draws the inputs of batches: for pair i the ones that the dataset of the same recipe stores for i.

    With a filter the generator is called from two threads: ``ahead``'s makes candidates while the caller makes pairs.
    """

    def __init__(self, pairs: PairSource, choice: FilteredSource | None) -> None:
        import torch

        self.pairs, self.choice = pairs, choice
        self.on_gpu = pairs.device.type == "cuda"
        # Candidates are made while the caller's stream works, and only this thread waits for their scores.
        self.stream: torch.cuda.Stream | None = None
        if self.on_gpu and choice is not None:
            self.stream = torch.cuda.Stream(pairs.device)
            self.stream.wait_stream(torch.cuda.current_stream(pairs.device))  # the weights are there

    def draw(self, indices: NDArray[np.int64], views: Iterable[int]) -> Inputs:
        """The inputs of these views of the pairs; the anchors' always.

        Raises:
            GeneratorError, WeightsError: a filter's candidates cannot be made or judged.
        """
        chosen = indices if self.choice is None else self.choice.candidates(indices)
        return replace(self.pairs.draw(chosen, views), indices=indices)

    def ahead(self, batches: Iterable[NDArray[np.int64]], views: tuple[int, ...]) -> Generator[Inputs, None, None]:
        """The inputs of one batch after another; a thread draws the next ones meanwhile."""
        pending: deque[Future[Inputs]] = deque()
        coming = iter(batches)
        with ThreadPoolExecutor(1, thread_name_prefix="online-latents") as pool:
            try:
                while True:
                    for indices in islice(coming, BATCHES_AHEAD + 1 - len(pending)):
                        pending.append(pool.submit(self._draw_aside, indices, views))
                    if not pending:
                        return
                    yield pending.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _draw_aside(self, indices: NDArray[np.int64], views: tuple[int, ...]) -> Inputs:
        import torch

        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            drawn = self.draw(indices, views)
            return drawn.mapped(_pinned) if self.on_gpu else drawn


def _pinned(values: NDArray[Any]) -> NDArray[Any]:
    """The same values in page-locked memory, which a GPU fetches while the host goes on."""
    import torch

    pinned: NDArray[Any] = torch.from_numpy(np.ascontiguousarray(values)).pin_memory().numpy()
    return pinned


NOT_ONLINE = ("num_pairs", "pairs_per_shard")  # of a dataset's recipe: how many are written, and where


def open_online(
    gen: str = "stylegan2_fashion",
    *,
    filter: str | Path | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> GeneratedSource:
    """A source of the pairs that ``genrep-generate dataset`` would make of the same options.

    Args:
        filter: a discriminator of ``fit-filter``, which keeps the better half of the candidates; or ``keep=PART,weights=FILE``.
        device: the trainer's; a torch device.
        options: fields of ``BuildConfig`` that say which pairs: ``views``, ``classes``, ``prompts``, ``anchors``, ``seed``, ….
            None leaves the choice to the recipe.

    Raises:
        RecipeError: no such generator, or options that contradict each other or it.
        WeightsError: its weights, or the filter's, are missing, damaged or of another kind.
        GeneratorError: a user's own generator does not follow the protocol.
    """
    import torch

    if filter is not None and "=" not in str(filter):
        filter = f"weights={filter}"
    config = BuildConfig(gen=gen, filter=None if filter is None else str(filter), **{"num_pairs": 1, **options})
    device = torch.device(device)
    recipe = load_recipe(gen)
    loaded = open_generator(recipe, config.weights, device, config.generator_options())
    material = open_material(config, recipe, loaded.generator)
    plan = make_plan(config, recipe, loaded, material)
    conditions = make_conditions(tuple(plan.recipe["classes"]), loaded.generator, material)
    views = resolve_views(config, recipe)
    weighing = resolve_weigh(config)
    pairs = DevicePairs(
        plan,
        views,
        recipe,
        loaded.generator,
        conditions,
        batch_size=1,
        device=device,
        anchors=material.anchors,
        weigher=None if weighing is None else weighing.open(device),
    )
    return GeneratedSource(plan, pairs, through_filter(pairs, resolve_filter(config)))


class DevicePairs(PairSource):
    """The builder's pairs, whose images stay on the device."""

    def images(self, given: OnDevice, view: int) -> tuple[Tensor, Tensor]:
        """One view's uint8 images ``(B, H, W, 3)`` and their largest values ``(B,)``, on the device like the inputs."""
        import torch

        self.batch_size = len(given.inputs.indices)
        with torch.autocast(self.device.type, enabled=False):  # the trainer's, if it asks for a batch inside it
            return self.make(given, view, given.inputs.indices)

    def weights_now(self, views: list[Tensor]) -> NDArray[np.float64]:
        """Weights of pairs whose images are on the device. Shapes: ``(B, H, W, 3)`` uint8 each -> ``(B,)``."""
        import torch

        assert self.weigher is not None
        with torch.autocast(self.device.type, enabled=False):
            return self.weigher.weights(self.weigher.qualities(views))


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Largest values on their way to the host."""

    indices: NDArray[np.int64]
    largest: Tensor  # (B,), over the views
    done: torch.cuda.Event | None


class GeneratedSource:
    """Makes any pairs of a recipe on demand; ``genrep.across.OnlineSource`` says what a trainer sees of it.

    Pair i has the latents, and on the same device in batches of the same size the bytes, that pair i of the dataset has
    before encoding.

    Attributes:
        recipe: resolved, as in a manifest, without what concerns storage.
        identity: sha256 of ``recipe``.
        facts: licence of the weights and where files came from, as in a manifest.
        fields: what a batch can hold.
        image_shape: (height, width).
        num_positives: per anchor; 0 for views that make none.
        classes: names of the labels 0, 1, …
        labels: those that the pairs can have; none without classes.
        turn: pair i has prompt or real anchor i modulo this many; 0 without either.
        latent_shape: of ``z_anchor``.
    """

    def __init__(self, plan: BuildPlan, pairs: DevicePairs, choice: FilteredSource | None) -> None:
        image = {name: value for name, value in plan.recipe["image"].items() if name != "encoding"}
        self.recipe: dict[str, Any] = {
            **{name: value for name, value in plan.recipe.items() if name not in NOT_ONLINE},
            "image": image,
        }
        self.identity, self.facts = digest_json(self.recipe), plan.facts
        self.image_shape: tuple[int, int] = (image["height"], image["width"])
        self.num_positives: int = plan.recipe["num_positives"]
        self.classes = plan.classes
        self.labels = tuple(int(label) for label in np.unique(pairs.conditions.labels) if label >= 0)
        self.latent_shape: tuple[int, ...] = pairs.latent.shape
        self.pairs, self.latents = pairs, Latents(pairs, choice)
        self.fields = tuple(field["name"] for field in plan.fields)
        self.floats = tuple(field["name"] for field in plan.fields if field["kind"] == "float")
        self.turn = len(pairs.conditions.choices) if pairs.conditions.prompts is not None else 0
        if pairs.anchors is not None:
            self.turn = len(pairs.anchors)
        images = [field["name"] for field in plan.fields if field["kind"] == "image"]
        self._images = {name: view for view, name in enumerate(images)}
        self._zs = {f"z_{name}": view for name, view in self._images.items() if f"z_{name}" in self.fields}
        self._shape = pairs.latent.shape
        self._copier = Copier(pairs.device)
        self._judged: deque[_Judged] = deque()

    def batch(self, indices: NDArray[np.int64], fields: Sequence[str] | None = None) -> dict[str, Tensor]:
        """One batch; see ``batches``."""
        with closing(self.batches([np.asarray(indices, dtype=np.int64)], fields)) as batches:
            return next(batches)

    def batches(
        self, batches: Iterable[NDArray[np.int64]], fields: Sequence[str] | None = None
    ) -> Generator[dict[str, Tensor], None, None]:
        """The pairs with these indices, batch by batch, while the latents of the next ones are drawn in a thread.

        ``anchor``, ``positive``, ``positive_1``, … uint8 ``(B, H, W, 3)``, ``z_anchor``, ``z_positive``, … float32 ``(B, …)``,
        ``label`` (-1 = none) and other rows int64, ``strength`` and other floats float32 ``(B,)`` lie on the device. ``index``
        int64 ``(B,)`` lies in host memory, where pixel views draw by it. An image that ``fields`` (None: all) does not name is
        not made.

        Values are checked once the device has them, without waiting: on a GPU a fault ends a later batch, or ``check``.

        Raises:
            RecipeError: there is no such field.
            GeneratorError: the generator failed, or an image is not finite or far out of range; names the pair.
        """
        names = self._names(fields)
        shown = sorted({self._images[name] for name in names if name in self._images})
        drawn = sorted({*shown, *(self._zs[name] for name in names if name in self._zs)})
        if not set(names) <= {*self._images, *self._zs, "label", "index"}:
            drawn = list(range(self.num_positives + 1))
        if WEIGHT_FIELD in names:
            shown = drawn
        with closing(self.latents.ahead(batches, tuple(drawn))) as ahead:
            for inputs in ahead:
                yield self._make(inputs, names, shown)

    def check(self, wait: bool = True) -> None:
        """Check the values of the images made so far; without ``wait``, only of those that the device has finished.

        Raises:
            GeneratorError: see ``batches``.
        """
        while self._judged:
            judged = self._judged[0]
            if judged.done is not None:
                if not wait and not judged.done.query():
                    return
                judged.done.synchronize()
            self._judged.popleft()
            self._require_sane(judged)

    def _require_sane(self, judged: _Judged) -> None:
        name = self.pairs.recipe.name
        require_sane(judged.largest, lambda row: f"generator {name}: pair {judged.indices[row]}")

    def _make(self, inputs: Inputs, names: Sequence[str], shown: list[int]) -> dict[str, Tensor]:
        import torch

        from genrep.devices import to_device

        given = self.pairs.upload(inputs)
        images = {view: self.pairs.images(given, view) for view in shown}
        if images:
            worst = torch.stack([largest for _, largest in images.values()]).amax(dim=0)  # NaN wins
            worst, done = self._copier.to_host(worst), self._copier.event()
            self._judged.append(_Judged(indices=inputs.indices, largest=worst, done=done))
            self.check(wait=False)
        values: dict[str, NDArray[Any]] = {}
        if not set(names) <= {*self._images, *self._zs, "label", "index", WEIGHT_FIELD}:
            values = self.pairs.values(inputs, given)
        if WEIGHT_FIELD in names:
            values[WEIGHT_FIELD] = self.pairs.weights_now([images[view][0] for view in shown])
        batch: dict[str, Tensor] = {}
        for name in names:
            if name in self._images:
                batch[name], _ = images[self._images[name]]
            elif name in self._zs:
                z = given.z[self._zs[name]]
                batch[name] = z if z.dim() > 2 else z.reshape(len(z), *self._shape)
            elif name == "index":
                batch[name] = torch.tensor(inputs.indices)
            else:
                found = inputs.labels if name == "label" else values[name]
                batch[name] = to_device(found.astype(np.float32) if name in self.floats else found, self.pairs.device)
        return batch

    def _names(self, fields: Sequence[str] | None) -> tuple[str, ...]:
        for name in fields or ():
            if name not in self.fields:
                raise RecipeError.naming(
                    "{views} {}: have no field {!r}; there are {}",
                    self.recipe["views"]["name"],
                    name,
                    ", ".join(self.fields),
                )
        return self.fields if fields is None else tuple(fields)
