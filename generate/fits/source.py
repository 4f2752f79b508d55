"""Where a fit's images come from: a frozen generator and its anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genrep import seeding

from ..generators.base import Generator, LatentSpec
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
    """A batch of latents and what the generator gets beside them."""

    z: Tensor  # (B, dim)
    y: Tensor | None  # (B,) classes, or rows of instance features
    labels: Tensor  # (B,) int64, -1 = none


@dataclass(frozen=True, kw_only=True)
class Source:
    """A generator with its latent law and conditions, on a device."""

    generator: Generator
    recipe: Recipe
    latent: LatentSpec
    conditions: Conditions
    device: torch.device
    digest: str | None  # of the generator's weights
    features_digest: str | None = None  # of the instance features (IC-GAN)

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
        return self.generator.synthesize(anchors.z, anchors.y)

    def to_pixels(self, images: Tensor) -> Tensor:
        """As the recipe crops and shrinks them, in [0, 1]. Shape: ``(B, 3, H, W) -> (B, 3, h, w)`` float32, differentiable."""
        return framed(images, self.recipe.crop, self.recipe.resize).float().add(1).div(2).clamp(0, 1)

    @property
    def pixel_shape(self) -> tuple[int, int]:
        """Height and width after the recipe's crop and shrinking. Raises RecipeError where they do not fit the network."""
        return framed_shape(self.recipe, self.generator.image_shape)


def open_source(
    gen: str, weights: Path | None, device: torch.device, options: Mapping[str, Any] | None = None
) -> Source:
    """Load a generator by recipe name, TOML file or ``package.module:factory``, and see that gradients pass through it.

    Raises:
        RecipeError: there is no such generator, or it needs instance features and has none.
        WeightsError, GeneratorError: its weights cannot be read, or its images carry no gradient back to z.
    """
    recipe = load_recipe(gen)
    loaded = open_generator(recipe, weights, device, options)
    generator = loaded.generator
    require_gradient(generator, gen, device)
    return Source(
        generator=generator,
        recipe=recipe,
        latent=latent_spec(recipe, generator.latent),
        conditions=make_conditions(tuple(range(class_count(generator))), generator),
        device=device,
        digest=loaded.weights_digest,
        features_digest=loaded.features_digest,
    )
