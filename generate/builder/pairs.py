"""The pairs of an index range: latents from frozen streams, images from the generator.

Pair i is a pure function of (recipe, i): nothing here depends on a batch's other rows, on processes or on restarts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genrep.errors import GeneratorError

from ..generators.base import Generator, LatentSpec
from ..pixels import to_uint8
from ..recipe import Recipe, latent_spec
from ..views.base import Draw
from .plan import Plan

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

LARGEST_VALUE = 100.0  # of a sane image; published networks overshoot [-1, 1], seeded random weights reach 17


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive pairs, ready to be written."""

    indices: NDArray[np.int64]  # (B,)
    labels: NDArray[np.int64]  # (B,), -1 = none
    latents: list[NDArray[np.float32]]  # per view: (B, d), the anchors' first
    images: list[NDArray[np.uint8]]  # per view: (B, H, W, 3)


class PairSource:
    """Makes the pairs of a plan with a generator on a device."""

    def __init__(
        self, plan: Plan, recipe: Recipe, generator: Generator, *, batch_size: int, device: torch.device
    ) -> None:
        self.plan, self.recipe, self.generator = plan, recipe, generator
        self.batch_size, self.device = batch_size, device
        self.latent: LatentSpec = latent_spec(recipe, generator.latent)

    def latents(self, indices: NDArray[np.int64]) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
        """Latents of every view and labels of the pairs. Shapes: ``(B,) -> [(B, d), ...], (B,)``."""
        seed = int(self.plan.recipe["seed"])
        anchors = self.latent.sample(seed, indices)
        views = [
            self.plan.views.transform(anchors, self.latent, Draw(seed=seed, indices=indices, k=k))
            for k in range(self.plan.num_positives)
        ]
        count = self.generator.num_classes
        labels = indices % count if count else np.full(len(indices), -1, dtype=np.int64)
        return [anchors, *views], labels

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """The pairs ``first`` .. ``first + count - 1`` in batches of the full size; a shorter rest is padded to run."""
        for start in range(first, first + count, self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, first + count), dtype=np.int64)
            latents, labels = self.latents(indices)
            images = [self._images(z, labels, indices) for z in latents]
            yield Batch(indices=indices, labels=labels, latents=latents, images=images)

    def _images(
        self, z: NDArray[np.float32], labels: NDArray[np.int64], indices: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        import torch

        # The last bit of a sum depends on the shape of the batch, so every batch has the full one.
        pad = self.batch_size - len(z)
        rows = torch.from_numpy(np.concatenate([z, np.repeat(z[-1:], pad, axis=0)])).to(self.device)
        y = None
        if self.generator.num_classes:
            y = torch.from_numpy(np.concatenate([labels, np.repeat(labels[-1:], pad)])).to(self.device)
        try:
            with torch.no_grad():
                images = self.generator.synthesize(rows, y)
        except torch.OutOfMemoryError as error:
            raise GeneratorError(
                f"--batch-size {self.batch_size}: {self.device} is out of memory, try a smaller one"
            ) from error
        except Exception as error:
            span = f"pairs {indices[0]} to {indices[-1]}"
            raise GeneratorError(
                f"generator {self.recipe.name} raised at {span}: {type(error).__name__}: {error}"
            ) from error
        self._check(images, indices)
        return to_uint8(images[: len(z)], self.recipe.uint8, self.recipe.crop).cpu().numpy()

    def _check(self, images: object, indices: NDArray[np.int64]) -> None:
        """Raise GeneratorError, with the pair's index, unless these are sane images of the promised shape."""
        import torch

        name = self.recipe.name
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            found = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
            raise GeneratorError(f"generator {name}: pair {indices[0]}: synthesize gave {found}, wanted a float tensor")
        wanted = (self.batch_size, 3, *self.generator.image_shape)
        if tuple(images.shape) != wanted:
            raise GeneratorError(
                f"generator {name}: pair {indices[0]}: images of shape {tuple(images.shape)}, wanted {wanted}"
            )
        largest = images[: len(indices)].float().abs().amax(dim=(1, 2, 3))
        bad = torch.nonzero(~(largest <= LARGEST_VALUE))  # also true for NaN
        if len(bad):
            row = int(bad[0])
            value = float(largest[row])
            raise GeneratorError(
                f"generator {name}: pair {indices[row]}: image values up to {value}, wanted finite and <= {LARGEST_VALUE:.0f}"
            )
