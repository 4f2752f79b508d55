"""The pairs of an index range: latents from frozen streams, images from the generator.

Pair i is a pure function of (recipe, i): nothing here depends on a batch's other rows, on processes or on restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.datasets_manifest.schema import WEIGHT_FIELD
from genrep.errors import GeneratorError, Phrase, phrase
from genrep.seeding import POSITIVE, StepNoise

from ..generators.base import Generator, LatentSpec
from ..generators.calls import edit, synthesize
from ..generators.probe import check_images, largest_values, require_sane
from ..pixels import to_uint8
from ..plans.build_plan import BuildPlan
from ..recipes.conditions import Conditions
from ..recipes.recipe import Recipe, latent_spec
from ..views import View
from ..views.base import Draw, synthesize_views
from .base import Batch, OutOfMemoryError, one_ahead

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from ..generators.calls import Condition
    from ..recipes.conditions import AnchorTable
    from ..views.foreground import Weigher

    Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that some views of a batch of pairs are made from, in host memory. View 0 is the anchors, k + 1 positive k."""

    indices: NDArray[np.int64]  # (B,)
    labels: NDArray[np.int64]  # (B,)
    y: NDArray[np.int64] | None  # (B,), of the anchors: classes, or rows of features or prompts
    z: dict[int, NDArray[np.float32]]  # (B, dim), or (B, G, d) on groups of W layers; no 0 with real anchors
    prompts: dict[int, NDArray[np.int64]] = field(default_factory=dict)  # (B,), of positives that have their own
    parameters: dict[int, dict[str, Floats]] = field(default_factory=dict)  # (B,) each: what a view drew without images
    sources: NDArray[np.int64] | None = None  # (B,), which real images the anchors are
    pixels: NDArray[np.uint8] | None = None  # (B, H, W, 3), these images

    def padded(self, count: int) -> Inputs:
        """With the last pair repeated up to ``count``, for the shape of a batch decides the last bit of sums."""
        rows = np.minimum(np.arange(count), len(self.indices) - 1)
        return self.mapped(lambda values: values[rows])

    def mapped(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Inputs:
        """With every array changed."""

        def changed(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: changed(item) for key, item in value.items()}
            return None if value is None else change(value)

        return Inputs(**{name: changed(value) for name, value in vars(self).items()})


class PairSource:
    """Makes the pairs of a plan with a generator on a device."""

    def __init__(
        self,
        plan: BuildPlan,
        views: View,
        recipe: Recipe,
        generator: Generator,
        conditions: Conditions,
        *,
        batch_size: int,
        device: torch.device,
        anchors: AnchorTable | None = None,
        weigher: Weigher | None = None,
    ) -> None:
        self.views, self.recipe, self.generator = views, recipe, generator
        self.seed, self.num_positives = int(plan.recipe["seed"]), int(plan.recipe["num_positives"])
        self.batch_size, self.device = batch_size, device
        self.latent: LatentSpec = latent_spec(recipe, generator.latent)
        self.conditions, self.anchors, self.weigher = conditions, anchors, weigher
        self.copier = Copier(device)

    def set_batch_size(self, size: int) -> None:
        """See ``LaunchSource.set_batch_size``."""
        self.batch_size = size

    def halve_batch(self) -> None:
        """Go on with half the batch size, on a device whose cache is empty."""
        import torch

        self.batch_size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def draw(self, indices: NDArray[np.int64], views: Iterable[int] | None = None) -> Inputs:
        """What these views (all) of the pairs are made from; the anchors' inputs always."""
        wanted = range(self.num_positives + 1) if views is None else sorted(set(views))
        draws = {view: Draw(seed=self.seed, indices=indices, k=view - 1) for view in wanted if view}
        anchors, y = self.latent.sample(self.seed, indices), self.conditions.y(indices)
        sources = None if self.anchors is None else indices % len(self.anchors)
        z = {view: self.views.transform(anchors, self.latent, draw) for view, draw in draws.items()}
        changes = self.views.changes_prompt and y is not None
        return Inputs(
            indices=indices,
            labels=self.conditions.label(indices),
            y=y,
            z=z if sources is not None else {0: anchors, **z},
            prompts={
                view: self.conditions.other_prompts(y, self.views, draw)
                for view, draw in draws.items()
                if changes and y is not None
            },
            parameters={
                view: self.views.parameters(draw) for view, draw in draws.items() if not self.views.needs_images
            },
            sources=sources,
            pixels=None if self.anchors is None or sources is None else self.anchors.images(sources),
        )

    def values(self, inputs: Inputs, given: OnDevice) -> dict[str, NDArray[Any]]:
        """The columns of a dataset besides images, latents, weight, label and index, by the name of their field.

        Args:
            given: the same on the device, padded or not.
        """
        columns: dict[str, NDArray[Any]] = {}
        for view in sorted(inputs.z.keys() - {0}):
            drawn = {name: values[: len(inputs.indices)] for name, values in given.parameters(view).items()}
            columns |= {name if view == 1 else f"{name}_{view - 1}": values for name, values in drawn.items()}
        if inputs.y is not None and self.conditions.by_row:
            columns["row"] = inputs.y
        if inputs.y is not None and self.conditions.prompts is not None:
            columns["prompt"] = inputs.y
            columns |= {f"prompt_{view}": rows for view, rows in inputs.prompts.items()}
        if inputs.sources is not None:
            columns["source"] = inputs.sources
        return columns

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source.batches``."""
        return one_ahead(self.launch(indices) for indices in self.ranges(first, count))

    def ranges(self, first: int, count: int) -> Iterator[NDArray[np.int64]]:
        """Indices of the batches that a range is made in; only the last may be shorter."""
        start, end = first, first + count
        while start < end:
            size = self.batch_size
            yield np.arange(start, min(start + size, end), dtype=np.int64)
            start += size

    def launch(self, indices: NDArray[np.int64]) -> Pending:
        """Begin the batch of these pairs on the device, copies to the host included, without waiting for it."""
        inputs = self.draw(indices)
        given = self.upload(inputs.padded(self.batch_size))
        made = [self.make(given, view, indices) for view in range(self.num_positives + 1)]
        views = [(self.copier.to_host(levels), self.copier.to_host(largest)) for levels, largest in made]
        weights = self.weights([levels for levels, _ in made])
        batch = Batch(
            indices=indices,
            labels=inputs.labels,
            values=self.values(inputs, given),
            latents=[z if z.ndim > 2 else z.reshape(len(z), *self.latent.shape) for _, z in sorted(inputs.z.items())],
            images=[],
        )
        return Pending(batch, views, f"generator {self.recipe.name}", self.copier.event(), weights)

    def weights(self, views: list[Tensor]) -> Callable[[], NDArray[np.float64]] | None:
        """A function that gives the weights ``(B,)`` of pairs once the device is done; None where they have none.

        Shape: ``(B, H, W, 3)`` uint8 each, on the device.
        """
        if self.weigher is None:
            return None
        with self._faults("weighing raised "):
            qualities = self.weigher.qualities(views)
        return partial(self.weigher.weights, self.copier.to_host(qualities))

    def upload(self, inputs: Inputs) -> OnDevice:
        """The inputs on the device; the host does not wait."""
        maker = Maker(
            generator=self.generator,
            views=self.views,
            conditions=self.conditions,
            recipe=self.recipe,
            seed=self.seed,
            device=self.device,
        )
        return OnDevice(maker, inputs)

    def make(self, given: OnDevice, view: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """uint8 images and largest values of one view, on the device. Shapes: ``(B, H, W, 3)``, ``(B,)``."""
        name = self.recipe.name
        with self._faults(f"generator {name} raised at pairs {indices[0]} to {indices[-1]}: "):
            found: object = given.images(view)
            images = check_images(found, given.z[max(given.z)], self.generator, f"generator {name}: pair {indices[0]}")
            images = images[: len(indices)]
            levels = to_uint8(images, self.recipe.uint8, self.recipe.crop, self.recipe.resize)
            return levels, largest_values(images)

    def _faults(self, raised: str) -> AbstractContextManager[None]:
        out_of_memory = phrase("{batch_size} {}: {} is out of memory, try a smaller one", self.batch_size, self.device)
        return synthesis_faults(raised, out_of_memory)


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What makes images of a batch's inputs."""

    generator: Generator
    views: View
    conditions: Conditions
    recipe: Recipe
    seed: int
    device: torch.device


class OnDevice:
    """The inputs of a batch on the device, in the order of its stream, and the images that a generator makes of them."""

    def __init__(self, maker: Maker, inputs: Inputs) -> None:
        from genrep.devices import to_device

        self.maker, self.inputs = maker, inputs
        self.z = {view: to_device(values, maker.device) for view, values in inputs.z.items()}
        self._anchors: Tensor | None = None
        self._seen: Floats | None = None
        self._drawn = dict(inputs.parameters)
        self._conditions: dict[int, Condition] = {}

    def images(self, view: int) -> Tensor:
        """Images of one view. Shape: ``(B, 3, H, W)``, nominally in [-1, 1]."""
        generator, views = self.maker.generator, self.maker.views
        if view == 0:
            return self.anchors()
        noise = StepNoise(self.maker.seed, self.inputs.indices, POSITIVE + view - 1)
        y, z = self._condition(view), self.z[view]
        if views.edits:
            return edit(generator, views.edits, self.anchors(), z, y, self._arguments(view), noise)
        return synthesize_views(generator, views, self.z[0], z, y, noise)

    def anchors(self) -> Tensor:
        """Images of the anchors, generated or real. They are made once. Shape: ``(B, 3, H, W)``."""
        if self._anchors is None:
            if self.inputs.pixels is not None:
                from genrep.devices import to_device

                pixels = to_device(self.inputs.pixels, self.maker.device)
                self._anchors = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
            else:
                noise = StepNoise(self.maker.seed, self.inputs.indices)
                self._anchors = synthesize(self.maker.generator, self.z[0], self._condition(0), noise)
        return self._anchors

    def _condition(self, view: int) -> Condition:
        """Classes, rows or texts of a view; the anchors' unless it has its own."""
        if view not in self.inputs.prompts:
            view = 0
        if view not in self._conditions:
            from genrep.devices import to_device

            rows = self.inputs.prompts.get(view, self.inputs.y)
            given = None if rows is None else self.maker.conditions.given(rows)
            self._conditions[view] = to_device(given, self.maker.device) if isinstance(given, np.ndarray) else given
        return self._conditions[view]

    def parameters(self, view: int) -> dict[str, Floats]:
        """What the view drew, in host memory; waits for the anchors' images if it looks at them. Shape: ``(B,)`` each."""
        if view not in self._drawn:
            draw = Draw(seed=self.maker.seed, indices=self.inputs.indices, k=view - 1)
            self._drawn[view] = self.maker.views.parameters(draw, self._look())
        return self._drawn[view]

    def _look(self) -> Floats | None:
        """What the view sees in the anchors' images, which are quantised first: as a dataset has them before encoding."""
        if self._seen is None and self.maker.views.needs_images:
            recipe = self.maker.recipe
            self._seen = self.maker.views.look(to_uint8(self.anchors(), recipe.uint8, recipe.crop, recipe.resize))
        return self._seen

    def _arguments(self, view: int) -> dict[str, Tensor]:
        """What the view drew: float32, or int64 where a name says a level."""
        from genrep.devices import to_device

        drawn = self.parameters(view)
        kinds = {name: np.int64 if name == "noise_level" else np.float32 for name in drawn}
        return {name: to_device(values.astype(kinds[name]), self.maker.device) for name, values in drawn.items()}


class Pending:
    """A batch in progress on the device."""

    def __init__(
        self,
        batch: Batch,
        views: list[tuple[Tensor, Tensor]],
        where: str,
        done: torch.cuda.Event | None,
        weights: Callable[[], NDArray[np.float64]] | None = None,
    ) -> None:
        self.batch, self.views, self.where, self.done, self.weights = batch, views, where, done, weights

    def result(self) -> Batch:
        """Wait, check the values, and return the batch.

        Raises:
            GeneratorError: an image is not finite or far out of range; names the pair.
        """
        if self.done is not None:
            self.done.synchronize()
        for _, largest in self.views:
            require_sane(largest, lambda row: f"{self.where}: pair {self.batch.indices[row]}")
        self.batch.images.extend(levels.numpy() for levels, _ in self.views)
        if self.weights is not None:
            self.batch.values[WEIGHT_FIELD] = self.weights()
        return self.batch


class Copier:
    """Copies results to the host on a stream of its own, beside what the device computes next."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def to_host(self, tensor: Tensor) -> Tensor:
        """The tensor in host memory; from a GPU into pinned memory, there once ``event`` has passed."""
        import torch

        if self.stream is None:
            return tensor
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)  # torch keeps pinned blocks for reuse
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            host.copy_(tensor, non_blocking=True)
        tensor.record_stream(self.stream)  # its memory is not given away before the copy is done
        return host

    def event(self) -> torch.cuda.Event | None:
        """An event that passes when all copies so far are done; None if there is nothing to wait for."""
        import torch

        if self.stream is None:
            return None
        event = torch.cuda.Event()
        event.record(self.stream)
        return event


@contextmanager
def synthesis_faults(raised: str | Phrase, out_of_memory: Phrase) -> Iterator[None]:
    """Context for calling a generator without gradients; its errors become ours.

    Args:
        raised: how the line about an error of the generator begins.
        out_of_memory: the message if the device cannot hold the batch.

    Raises:
        OutOfMemoryError, GeneratorError: see above.
    """
    import torch

    try:
        with torch.no_grad():
            yield
    except GeneratorError:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            raise OutOfMemoryError.naming("{}", out_of_memory) from error
        raise GeneratorError.naming("{}{}: {}", raised, type(error).__name__, error) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed for lack of memory, on a GPU or in torch's CPU allocator."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
