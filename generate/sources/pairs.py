"""The pairs of an index range: latents from frozen streams, images from the generator.

Pair i is a pure function of (recipe, i): nothing here depends on a batch's other rows, on processes or on restarts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import GeneratorError, Phrase, phrase

from ..generators.base import Generator, LatentSpec
from ..generators.probe import check_images, largest_values, require_sane
from ..pixels import to_uint8
from ..plans.build_plan import BuildPlan
from ..recipes.conditions import make_conditions
from ..recipes.recipe import Recipe, latent_spec
from ..views import View
from ..views.base import Draw, synthesize_views
from .base import Batch, OutOfMemoryError, one_ahead

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


class PairSource:
    """Makes the pairs of a plan with a generator on a device."""

    def __init__(
        self,
        plan: BuildPlan,
        views: View,
        recipe: Recipe,
        generator: Generator,
        *,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.views, self.recipe, self.generator = views, recipe, generator
        self.seed, self.num_positives = int(plan.recipe["seed"]), int(plan.recipe["num_positives"])
        self.batch_size, self.device = batch_size, device
        self.latent: LatentSpec = latent_spec(recipe, generator.latent)
        self.conditions = make_conditions(tuple(plan.recipe["classes"]), generator)
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

    def latents(self, indices: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Latents of every view of the pairs, the anchors' first.

        Shapes: ``(B,) -> [(B, d), ...]``; for views on groups of W layers the positives' are ``(B, G, d)``.
        """
        anchors = self.latent.sample(self.seed, indices)
        return [anchors, *(self.positives(anchors, indices, k) for k in range(self.num_positives))]

    def positives(self, anchors: NDArray[np.float32], indices: NDArray[np.int64], k: int) -> NDArray[np.float32]:
        """Latents of positive ``k`` of the pairs with these anchors. Shapes: ``(B, d), (B,) -> (B, d)``, or ``(B, G, d)``."""
        return self.views.transform(anchors, self.latent, Draw(seed=self.seed, indices=indices, k=k))

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
        latents, y = self.latents(indices), self.conditions.y(indices)
        batch = Batch(
            indices=indices,
            labels=self.conditions.label(indices),
            rows=y if self.conditions.by_row else None,
            latents=latents,
            images=[],
        )
        padded = None if y is None else self._padded(y)
        anchors = self._padded(latents[0])
        views = [self._launch_view(anchors, None, padded, indices)]
        views += [self._launch_view(anchors, self._padded(z), padded, indices) for z in latents[1:]]
        return Pending(batch, views, f"generator {self.recipe.name}", self.copier.event())

    def _padded(self, values: NDArray[Any]) -> Tensor:
        """Move rows to the device and repeat the last up to the full batch, whose shape decides the last bit of sums."""
        from genrep.devices import to_device

        pad = self.batch_size - len(values)
        return to_device(np.concatenate([values, np.repeat(values[-1:], pad, axis=0)]), self.device)

    def _launch_view(
        self, anchors: Tensor, positives: Tensor | None, y: Tensor | None, indices: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """uint8 images and largest values of one view (the anchors' without ``positives``), on their way to the host."""
        name = self.recipe.name
        with synthesis_faults(
            f"generator {name} raised at pairs {indices[0]} to {indices[-1]}: ",
            phrase("{batch_size} {}: {} is out of memory, try a smaller one", self.batch_size, self.device),
        ):
            found: object = (
                self.generator.synthesize(anchors, y)
                if positives is None
                else synthesize_views(self.generator, self.views, anchors, positives, y)
            )
            images = check_images(found, anchors, self.generator, f"generator {name}: pair {indices[0]}")
            images = images[: len(indices)]
            levels = to_uint8(images, self.recipe.uint8, self.recipe.crop, self.recipe.resize)
        return self.copier.to_host(levels), self.copier.to_host(largest_values(images))


class Pending:
    """A batch in progress on the device."""

    def __init__(
        self, batch: Batch, views: list[tuple[Tensor, Tensor]], where: str, done: torch.cuda.Event | None
    ) -> None:
        self.batch, self.views, self.where, self.done = batch, views, where, done

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
