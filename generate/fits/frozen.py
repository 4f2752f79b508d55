"""What all fits share: the frozen generator and its anchors, the lock on the run's folder, and timing on the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genrep import seeding
from genrep.files import locked_folder
from genrep.runs.engine import memory_named

from ..generators.base import Generator, LatentSpec
from ..generators.calls import require_plain, synthesize
from ..generators.probe import require_gradient
from ..pixels import framed
from ..recipes.conditions import Conditions, class_count, make_conditions
from ..recipes.recipe import Recipe, framed_shape, latent_spec, load_recipe
from ..weights.load import open_generator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """A batch of latents with the conditions that the generator gets."""

    z: Tensor  # (B, dim)
    y: Tensor | None  # (B,) classes, or rows of instance features
    labels: Tensor  # (B,) int64, -1 = none


@dataclass(frozen=True, kw_only=True)
class FrozenGenerator:
    """A generator with its latent law and conditions, on a device."""

    generator: Generator
    recipe: Recipe
    latent: LatentSpec
    conditions: Conditions
    device: torch.device
    digest: str | None  # digest of the generator's weights
    features_digest: str | None = None  # digest of the instance features (IC-GAN)

    def anchors(self, seed: int, indices: NDArray[np.int64]) -> Anchors:
        """The anchors with these numbers; classes are drawn evenly, each from its own stream."""
        labels = np.full(len(indices), -1, dtype=np.int64)
        y: Tensor | None = None
        if len(self.conditions.choices):
            u = seeding.uniforms(seed, indices, seeding.LABEL, 1)[:, 0]
            chosen = (u * len(self.conditions.choices)).astype(np.int64)
            labels, y = self.conditions.labels[chosen], self._to(self.conditions.choices[chosen])
        return Anchors(z=self._to(self.latent.sample(seed, indices)), y=y, labels=self._to(labels))

    def _to(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def images(self, anchors: Anchors) -> Tensor:
        """G(z). Shape: ``(B, 3, H, W)``, nominally in [-1, 1], the network's whole output."""
        return synthesize(self.generator, anchors.z, anchors.y)

    def to_pixels(self, images: Tensor) -> Tensor:
        """Crop and shrink by the recipe, to [0, 1]. Shape: ``(B, 3, H, W) -> (B, 3, h, w)`` float32, differentiable."""
        return framed(images, self.recipe.crop, self.recipe.resize).float().add(1).div(2).clamp(0, 1)

    def identity(self) -> dict[str, Any]:
        """What a run's identity holds of the generator besides the latent law: digests, and how images become pixels."""
        facts: dict[str, Any] = {"generator": self.digest, "features": self.features_digest}
        return {**facts, "resize": list(self.recipe.resize)} if self.recipe.resize else facts

    def identity_of_images(self) -> dict[str, Any]:
        """``identity``, with the latent law and the crop that images are learned from."""
        crop = None if self.recipe.crop is None else list(self.recipe.crop)
        return {**self.identity(), "latent": self.latent.to_json(), "crop": crop}

    @property
    def pixel_shape(self) -> tuple[int, int]:
        """Height and width after the recipe's crop and shrinking. Raises RecipeError where they do not fit the network."""
        return framed_shape(self.recipe, self.generator.image_shape)


def open_frozen(
    gen: str,
    weights: str | Path | None,
    device: torch.device,
    options: Mapping[str, Any] | None = None,
    *,
    differentiable: bool = True,
) -> FrozenGenerator:
    """Load a generator by recipe name, TOML file or ``package.module:factory``, and see that gradients pass through it.

    ``differentiable=False``: they need not.

    Raises:
        RecipeError: there is no such generator, it needs instance features and has none, or its images are smaller than the
            recipe's crop.
        WeightsError, GeneratorError: its weights cannot be read, or its images carry no gradient back to z.
    """
    recipe = load_recipe(gen)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # of noisy ones, which are probed
        loaded = open_generator(recipe, weights, device, options)
        generator = loaded.generator
        require_plain(generator, gen)
        if differentiable:
            require_gradient(generator, gen, device)
    framed_shape(recipe, generator.image_shape)  # raises where weights of another size do not fit the recipe's crop
    return FrozenGenerator(
        generator=generator,
        recipe=recipe,
        latent=latent_spec(recipe, generator.latent),
        conditions=make_conditions(tuple(range(class_count(generator))), generator),
        device=device,
        digest=loaded.weights_digest,
        features_digest=loaded.features_digest,
    )


@contextmanager
def at_work(out: Path, device: torch.device, batch_size: int) -> Iterator[None]:
    """Hold the lock of a fit's folder, and name the batch size if a batch does not fit in memory.

    A generator's own noise comes from torch's stream, which each step seeds; the caller's is left as it was.
    """
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), locked_folder(out), memory_named(batch_size):
        yield


class Stopwatch:
    """Seconds spent in named sections. On a GPU they are measured by events, which are read only in ``collect``."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.totals: dict[str, float] = {}
        self.pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time inside towards ``name``."""
        if not self.on_gpu:
            started = time.perf_counter()
            yield
            self.totals[name] = self.totals.get(name, 0.0) + time.perf_counter() - started
            return
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        yield
        last.record()
        self.pending.append((name, first, last))

    def collect(self) -> dict[str, float]:
        """Seconds of each section since the last call; waits for the device."""
        for name, first, last in self.pending:
            last.synchronize()
            self.totals[name] = self.totals.get(name, 0.0) + first.elapsed_time(last) / 1000
        totals, self.totals, self.pending = self.totals, {}, []
        return totals
