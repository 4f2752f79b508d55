"""What a navigator moves and what f sees: the part of the latent, T_x of float images, and the change of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrep.errors import RecipeError
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PixelViews
from genrep.pixel_views.dense import differentiable_views
from genrep.pixel_views.parameters import draw
from genrep.seeding import derive

from ..generators.base import LatentSpec
from ..generators.calls import synthesize
from ..pixels import to_uint8
from ..sources.open import mean_change
from ..views.base import check_range
from .frozen import Anchors, FrozenGenerator

if TYPE_CHECKING:
    from ..views.navigators import Walk


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
        """The components of z that T gets. Shape: ``(B, dim of z) -> (B, F)``."""
        return z[:, self.start : self.stop]

    def move(self, z: Tensor, shift: Tensor) -> Tensor:
        """``z' = z + T(z)`` on the components that T moves. Shapes: ``(B, dim of z), (B, F) -> (B, dim of z)``."""
        return z + F.pad(shift, (self.start, z.shape[1] - self.stop))

    def positives(self, source: FrozenGenerator, anchors: Anchors, shift: Tensor) -> Tensor:
        """Images of the moved latents: G(z'), or, on layers, g of w = f(z) with f(z') in place of these layers' w (HL).

        Shape: shift ``(B, F)`` -> ``(B, 3, H, W)``, differentiable in ``shift``.
        """
        moved = self.move(anchors.z, shift)
        if self.layers is None:
            return synthesize(source.generator, moved, anchors.y)
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
    """The scope of a range of chunks; all of z without one. Raises RecipeError if the latent of ``name`` lacks them."""
    if not chunks:
        return Scope(start=0, stop=latent.dim)
    if not latent.chunks:
        raise RecipeError.naming("{chunks} {}: the latent of {} is not divided into chunks", chunks, name)
    first, last = _range("chunks", chunks, len(latent.chunks))
    return Scope(start=sum(latent.chunks[:first]), stop=sum(latent.chunks[: last + 1]))


def _range(setting: str, text: str, count: int) -> tuple[int, int]:
    """Read a setting's range, within the number that the generator has. Raises RecipeError."""
    try:
        return check_range(text, count, "", setting)
    except RecipeError as error:
        raise RecipeError.naming(f"{{{setting}}}{{}}", error) from error


def make_scope(source: FrozenGenerator, chunks: str | None, layers: str | None) -> Scope:
    """The scope that ``chunks`` or ``layers`` name; all of z without them.

    Raises:
        RecipeError: the generator has no such chunks or layers.
    """
    if not layers:
        return chunk_scope(source.latent, chunks, source.recipe.name)
    generator: Any = source.generator
    if not hasattr(generator, "synthesize_w"):
        raise RecipeError.naming(
            "{layers} {}: {} has no W; wanted a StyleGAN2, or {chunks}", layers, source.recipe.name
        )
    found = _range("layers", layers, generator.config.num_ws)
    return Scope(start=0, stop=source.latent.dim, layers=found)


@dataclass(frozen=True, kw_only=True)
class PixelPolicy:
    """A law of pixel views with the size and the seed that they are drawn for."""

    views: PixelViews
    size: int  # pixels, of the output's sides
    seed: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, anchors: Tensor, positives: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """View 0 of every anchor, then view 1 of every positive, normalised.

        Shapes: ``(B, 3, H, W)`` in [0, 1] each, indices ``(B,)`` -> ``(2B, 3, size, size)``.
        """
        images = torch.cat([anchors, positives])
        parameters = draw(
            self.views,
            seed=self.seed,
            epoch=0,
            index=np.concatenate([indices, indices]),
            view=np.repeat([0, 1], len(indices)),
            image_shape=(images.shape[2], images.shape[3]),
            size=self.size,
        )
        return differentiable_views(images, parameters, self.size, self.mean, self.std)


FIT_ANCHORS = 32


@torch.no_grad()
def change_of_fit(source: FrozenGenerator, scope: Scope, walk: Walk, seed: int) -> float:
    """``mean_change`` of T on anchors drawn for it, with images turned into pixels as the recipe says."""
    anchors = source.anchors(derive("navigator-change", seed), np.arange(FIT_ANCHORS, dtype=np.int64))
    recipe = source.recipe
    images = source.images(anchors), scope.positives(source, anchors, walk.to(source.device)(scope.part(anchors.z)))
    one, other = (to_uint8(each, recipe.uint8, recipe.crop, recipe.resize).cpu().numpy() for each in images)
    return mean_change(one, other)
