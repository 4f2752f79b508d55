"""Real and generated images of one shape, both as the uint8 images of a dataset."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genrep.errors import DataError, RecipeError
from genrep.real_images import RealImages, load_images
from genrep.seeding import derive

from ..builder.conditions import class_count, make_conditions
from ..fitting.source import Source
from ..generators.load import open_generator
from ..generators.probe import check_images
from ..pixels import to_uint8
from ..recipe import latent_spec, load_recipe
from .config import FilterConfig
from .network import MIN_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT = 1000  # images of each kind that are scored in the end, at most; a tenth of the real ones if these are fewer


def open_source(config: FilterConfig, device: torch.device) -> Source:
    """The generator of a run; unlike a navigator's it need not be differentiable.

    Raises:
        RecipeError: there is no such generator, or its images are too small.
        WeightsError, GeneratorError: it cannot be used.
    """
    recipe = load_recipe(config.gen)
    loaded = open_generator(recipe, config.weights, device, config.generator_options())
    generator = loaded.generator
    source = Source(
        generator=generator,
        recipe=recipe,
        latent=latent_spec(recipe, generator.latent),
        conditions=make_conditions(tuple(range(class_count(generator))), generator),
        device=device,
        digest=loaded.weights_digest,
        features_digest=loaded.features_digest,
    )
    height, width = source.pixel_shape
    if min(height, width) < MIN_SIDE:
        raise RecipeError(f"--gen {config.gen}: images of {height}x{width}, wanted at least {MIN_SIDE}x{MIN_SIDE}")
    return source


def load_real(config: FilterConfig, shape: tuple[int, int]) -> RealImages:
    """The training split, of the generator's (cropped) shape. An image folder is cropped and resized to a square one.

    Raises:
        DataError: the images are missing, unreadable, of another shape, or too few.
    """
    size = shape[0] if shape[0] == shape[1] else None
    real = load_images(config.data, config.root, "train", size=size)
    if real.images.shape[1:3] != shape:
        found = "x".join(map(str, real.images.shape[1:3]))
        raise DataError(f"--data {config.data}: images of {found}, those of {config.gen} are {shape[0]}x{shape[1]}")
    if len(real.images) < 10:
        raise DataError(f"--data {config.data}: {len(real.images)} images, wanted at least 10")
    return real


class Material:
    """What a discriminator is shown: image number i of each kind is a pure function of (seed, i)."""

    def __init__(self, source: Source, real: RealImages, seed: int) -> None:
        self.source, self.seed = source, seed
        self.pixels = torch.from_numpy(np.ascontiguousarray(real.images))  # (N, H, W, 3) uint8
        self.sha256 = hashlib.sha256(self.pixels.numpy().data).hexdigest()
        held = min(HELD_OUT, len(self.pixels) // 10)
        order = np.random.default_rng(derive("filter-held-out", seed)).permutation(len(self.pixels))
        self.held_out, self.shown = np.sort(order[:held]), np.sort(order[held:])

    def real(self, numbers: NDArray[np.int64]) -> Tensor:
        """Real images in an order drawn for each epoch. Shape: ``(B,) -> (B, H, W, 3)`` uint8."""
        count = len(self.shown)
        rows = np.empty(len(numbers), dtype=np.int64)
        for epoch in np.unique(numbers // count):
            order = np.random.default_rng(derive("filter-order", self.seed, int(epoch))).permutation(count)
            inside = numbers // count == epoch
            rows[inside] = self.shown[order[numbers[inside] % count]]
        return self._on_device(rows)

    def held_out_real(self, numbers: NDArray[np.int64]) -> Tensor:
        """Real images that are shown in no epoch; as many as ``held_out``. Shape: ``(B,) -> (B, H, W, 3)`` uint8."""
        return self._on_device(self.held_out[numbers])

    def _on_device(self, rows: NDArray[np.int64]) -> Tensor:
        return self.pixels[torch.from_numpy(rows)].to(self.source.device, non_blocking=True)

    @torch.no_grad()
    def generated(self, numbers: NDArray[np.int64], *, held_out: bool = False) -> Tensor:
        """Images of the generator, as a dataset would store them. Shape: ``(B,) -> (B, H, W, 3)`` uint8."""
        source = self.source
        name = "filter-held-out" if held_out else "filter"
        anchors = source.anchors(derive(name, self.seed), numbers)
        where = f"generator {source.recipe.name}"
        images = check_images(source.images(anchors), anchors.z, source.generator, where)
        return to_uint8(images, source.recipe.uint8, source.recipe.crop)
