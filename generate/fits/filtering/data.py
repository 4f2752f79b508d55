"""Real and generated images of one shape, both as the uint8 images of a dataset."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genrep.errors import DataError, RecipeError
from genrep.images.labelled import load_images
from genrep.seeding import derive

from ...generators.probe import check_images
from ...pixels import to_uint8
from ...recipes.conditions import class_count, make_conditions
from ...recipes.recipe import latent_spec, load_recipe
from ...sources.listing import is_listed, list_real
from ...views.filter_network import MIN_SIDE
from ...weights.load import open_generator
from ..source import Source
from .config import FilterConfig
from .real import InFiles, InMemory, RealSet

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


def load_real(config: FilterConfig, shape: tuple[int, int]) -> RealSet:
    """The training split, of the generator's (cropped) shape. An image folder is cropped and resized to a square one, each
    image when it is shown.

    Raises:
        DataError: the images are missing, unreadable, of another shape, or too few.
    """
    real: RealSet
    if is_listed(config.data):
        real = InFiles(list_real(config.data, config.root, "train"), shape, config.gen)
    else:
        named = load_images(config.data, config.root, "train", download=config.download)
        if named.images.shape[1:3] != shape:
            found = "x".join(map(str, named.images.shape[1:3]))
            raise DataError(f"--data {config.data}: images of {found}, those of {config.gen} are {shape[0]}x{shape[1]}")
        real = InMemory(named)
    if len(real) < 10:
        raise DataError(f"--data {config.data}: {len(real)} images, wanted at least 10")
    return real


class Material:
    """What a discriminator is shown: image number i of each kind is a pure function of (seed, i)."""

    def __init__(self, source: Source, real: RealSet, seed: int) -> None:
        self.source, self.images, self.seed = source, real, seed
        held = min(HELD_OUT, len(real) // 10)
        order = np.random.default_rng(derive("filter-held-out", seed)).permutation(len(real))
        self.held_out, self.shown = np.sort(order[:held]), np.sort(order[held:])

    def expect_real(self, numbers: NDArray[np.int64]) -> None:
        """Say what ``real`` will be asked for next, so that it need not wait. Shape: ``(B,)``."""
        self.images.expect(self._rows(numbers))

    def real(self, numbers: NDArray[np.int64]) -> Tensor:
        """Real images in an order drawn for each epoch. Shape: ``(B,) -> (B, H, W, 3)`` uint8."""
        return self._on_device(self._rows(numbers))

    def _rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        count = len(self.shown)
        rows = np.empty(len(numbers), dtype=np.int64)
        for epoch in np.unique(numbers // count):
            inside = numbers // count == epoch
            rows[inside] = self.shown[_order(self.seed, int(epoch), count)[numbers[inside] % count]]
        return rows

    def held_out_real(self, numbers: NDArray[np.int64]) -> Tensor:
        """Real images that are shown in no epoch; as many as ``held_out``. Shape: ``(B,) -> (B, H, W, 3)`` uint8."""
        return self._on_device(self.held_out[numbers])

    def _on_device(self, rows: NDArray[np.int64]) -> Tensor:
        return self.images.read(rows).to(self.source.device, non_blocking=True)

    @torch.no_grad()
    def generated(self, numbers: NDArray[np.int64], *, held_out: bool = False) -> Tensor:
        """Images of the generator, as a dataset would store them. Shape: ``(B,) -> (B, H, W, 3)`` uint8."""
        source = self.source
        name = "filter-held-out" if held_out else "filter"
        anchors = source.anchors(derive(name, self.seed), numbers)
        where = f"generator {source.recipe.name}"
        images = check_images(source.images(anchors), anchors.z, source.generator, where)
        return to_uint8(images, source.recipe.uint8, source.recipe.crop, source.recipe.resize)


@lru_cache(maxsize=2)  # drawing that of a million images takes as long as a step
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(derive("filter-order", seed, epoch)).permutation(count)
