"""What of the latent, or of the network's layers, a navigator moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.errors import RecipeError

from ...generators.base import LatentSpec
from ...views.ranges import check_range
from ..source import Anchors, Source


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
