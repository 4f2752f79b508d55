"""Where a navigator's images come from: a frozen generator, its anchors, and positives that T moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep import seeding
from genrep.errors import RecipeError

from ..builder.conditions import Conditions, class_count, make_conditions
from ..generators.base import Generator, LatentSpec
from ..generators.load import open_generator
from ..generators.probe import require_gradient
from ..recipe import Recipe, latent_spec, load_recipe
from ..views.ranges import check_range

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
        """The recipe's crop, in [0, 1]. Shape: ``(B, 3, H, W) -> (B, 3, h, w)`` float32, differentiable."""
        if self.recipe.crop is not None:
            top, left, height, width = self.recipe.crop
            images = images[:, :, top : top + height, left : left + width]
        return images.float().add(1).div(2).clamp(0, 1)

    @property
    def pixel_shape(self) -> tuple[int, int]:
        """Height and width after the recipe's crop."""
        return self.generator.image_shape if self.recipe.crop is None else self.recipe.crop[2:]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What T moves: components ``start`` to ``stop`` of z, for all of the network or for layers ``layers`` only."""

    start: int
    stop: int
    layers: tuple[int, int] | None = None  # first and last

    @property
    def dim(self) -> int:
        """F: the number of components."""
        return self.stop - self.start

    def part(self, z: Tensor) -> Tensor:
        """What T gets. Shape: ``(B, dim of z) -> (B, F)``."""
        return z[:, self.start : self.stop]

    def move(self, z: Tensor, shift: Tensor) -> Tensor:
        """``z' = z + T(z)`` on the components that T moves. Shapes: ``(B, dim of z), (B, F) -> (B, dim of z)``."""
        return z + F.pad(shift, (self.start, z.shape[1] - self.stop))

    def positives(self, source: Source, anchors: Anchors, shift: Tensor) -> Tensor:
        """Images of the moved latents: G(z'), or, on layers, g of w = f(z) with f(z') in place of these layers' w (HL).

        Shape: shift ``(B, F)`` -> ``(B, 3, H, W)``, differentiable in ``shift``.
        """
        moved = self.move(anchors.z, shift)
        if self.layers is None:
            return source.generator.synthesize(moved, anchors.y)
        generator: Any = source.generator
        kept, other = styles(generator, anchors.z, anchors.y), styles(generator, moved, anchors.y)
        first, last = self.layers
        images: Tensor = generator.synthesize_w(
            torch.cat([kept[:, :first], other[:, first : last + 1], kept[:, last + 1 :]], dim=1)
        )
        return images


def styles(generator: Any, z: Tensor, y: Tensor | None) -> Tensor:
    """StyleGAN2's w of every layer, truncated as for its own images. Shape: ``(B, z_dim) -> (B, num_ws, w_dim)``."""
    ws: Tensor = generator.network.broadcast(generator.mapping(z, y), generator.truncation, generator.truncation_cutoff)
    return ws


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


def chunk_scope(latent: LatentSpec, chunks: str | None, name: str) -> Scope:
    """The components of a range of chunks, all without one. Raises RecipeError if the latent of ``name`` has none such."""
    if not chunks:
        return Scope(start=0, stop=latent.dim)
    if not latent.chunks:
        raise RecipeError(f"--chunks {chunks}: the latent of {name} has no chunks, it enters at once")
    first, last = check_range(chunks, len(latent.chunks), "--chunks", "chunks")
    return Scope(start=sum(latent.chunks[:first]), stop=sum(latent.chunks[: last + 1]))


def make_scope(source: Source, chunks: str | None, layers: str | None) -> Scope:
    """The scope that ``--chunks`` or ``--layers`` name; all of z without them.

    Raises:
        RecipeError: the generator has no such chunks or layers.
    """
    if not layers:
        return chunk_scope(source.latent, chunks, source.recipe.name)
    generator: Any = source.generator
    if not hasattr(generator, "synthesize_w"):
        raise RecipeError(f"--layers {layers}: {source.recipe.name} has no W; wanted a StyleGAN2, or --chunks")
    found = check_range(layers, generator.config.num_ws, "--layers", "layers")
    return Scope(start=0, stop=source.latent.dim, layers=found)
