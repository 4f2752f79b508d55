"""The images that a filter's discriminator is shown, and how well it classifies images that it has not seen.

Real and generated images have one shape and are uint8, as in a dataset. Real images of a named set are in memory; those of a
folder are decoded when they are needed.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from genrep.errors import DataError, RecipeError
from genrep.images.labelled import LabelledImages, read_image
from genrep.images.listing import Listing
from genrep.images.sets import is_listed, list_split, load_images
from genrep.machine import cores
from genrep.seeding import derive

from ..generators.probe import check_images
from ..pixels import to_uint8
from ..views.filter_network import MIN_SIDE, Scorer
from .config import FilterConfig
from .frozen import FrozenGenerator, open_frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Image = NDArray[np.uint8]
    from numpy.typing import NDArray


class RealSet(Protocol):
    """Images of one shape, by their numbers."""

    name: str
    licence: str
    sha256: str  # digest of the pixels, or of the files' names, sizes and modification times

    def __len__(self) -> int: ...

    def expect(self, rows: Ints) -> None:
        """Announce the next rows that ``read`` will be asked for, so that they can be prepared."""

    def read(self, rows: Ints) -> Tensor:
        """The images with these numbers. Shape: ``(B,) -> (B, H, W, 3)`` uint8, on the CPU."""


class InMemory:
    """Images that are already in memory."""

    def __init__(self, real: LabelledImages) -> None:
        self.name, self.licence = real.name, real.licence
        self.pixels = torch.from_numpy(np.ascontiguousarray(real.images))  # (N, H, W, 3) uint8
        self.sha256 = hashlib.sha256(self.pixels.numpy().data).hexdigest()

    def __len__(self) -> int:
        return len(self.pixels)

    def expect(self, rows: Ints) -> None:
        """See ``RealSet``."""

    def read(self, rows: Ints) -> Tensor:
        """See ``RealSet``."""
        return self.pixels[torch.from_numpy(rows)]


class InFiles:
    """Image files, decoded only when asked for, with one thread per core."""

    licence = "unknown"

    def __init__(self, listing: Listing, shape: tuple[int, int], wanted: str) -> None:
        self.listing, self.shape, self.wanted = listing, shape, wanted  # wanted: whose shape that is, in words
        self.name, self.sha256 = listing.name, listing.digest
        self.size = shape[0] if shape[0] == shape[1] else None
        self.pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        self.expected: tuple[Ints, list[Future[Image]]] | None = None

    def __len__(self) -> int:
        return len(self.listing.names)

    def expect(self, rows: Ints) -> None:
        """See ``RealSet``."""
        self.expected = rows, [self.pool.submit(self._decode, int(i)) for i in rows]

    def read(self, rows: Ints) -> Tensor:
        """See ``RealSet``. Raises DataError if an image cannot be read or is of another shape."""
        if self.expected is None or not np.array_equal(self.expected[0], rows):
            self.expect(rows)
        assert self.expected is not None
        futures, self.expected = self.expected[1], None
        return torch.from_numpy(np.stack([future.result() for future in futures]))

    def _decode(self, i: int) -> Image:
        path = self.listing.base / self.listing.names[i]
        image = read_image(path, self.size)
        if image.shape[:2] != self.shape:
            found = "x".join(map(str, image.shape[:2]))
            raise DataError(f"{path}: {found} pixels, wanted {self.shape[0]}x{self.shape[1]} as of {self.wanted}")
        return image


HELD_OUT = 1000  # most images of each kind that are scored at the end; at most a tenth of the real ones


def open_for_filter(config: FilterConfig, device: torch.device) -> FrozenGenerator:
    """The generator of a run; unlike a navigator's it need not be differentiable.

    Raises:
        RecipeError: there is no such generator, or its images are too small.
        WeightsError, GeneratorError: it cannot be used.
    """
    source = open_frozen(config.gen, config.weights, device, config.generator_options(), differentiable=False)
    height, width = source.pixel_shape
    if min(height, width) < MIN_SIDE:
        raise RecipeError.naming(
            "{gen} {}: images of {}x{}, wanted at least {}x{}", config.gen, height, width, MIN_SIDE, MIN_SIDE
        )
    return source


def load_real(config: FilterConfig, shape: tuple[int, int]) -> RealSet:
    """The training split, of the generator's (cropped) shape. An image folder is cropped and resized to a square one, each
    image when it is shown.

    Raises:
        DataError: the images are missing, unreadable, of another shape, or too few.
    """
    real: RealSet
    if is_listed(config.data):
        real = InFiles(list_split(config.data, config.root, "train"), shape, config.gen)
    else:
        named = load_images(config.data, config.root, "train", download=config.download)
        if named.images.shape[1:3] != shape:
            found = "x".join(map(str, named.images.shape[1:3]))
            raise DataError.naming(
                "{data} {}: images of {} pixels, wanted those of {}, {}x{}", config.data, found, config.gen, *shape
            )
        real = InMemory(named)
    if len(real) < 10:
        raise DataError.naming("{data} {}: {} images, wanted at least 10", config.data, len(real))
    return real


class Material:
    """The images that a discriminator is shown. Image i of each kind is a pure function of (seed, i)."""

    def __init__(self, source: FrozenGenerator, real: RealSet, seed: int) -> None:
        self.source, self.images, self.seed = source, real, seed
        held = min(HELD_OUT, len(real) // 10)
        order = np.random.default_rng(derive("filter-held-out", seed)).permutation(len(real))
        self.held_out, self.shown = np.sort(order[:held]), np.sort(order[held:])

    def expect_real(self, numbers: NDArray[np.int64]) -> None:
        """Announce the next numbers that ``real`` will be asked for, so that they can be prepared. Shape: ``(B,)``."""
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


@lru_cache(maxsize=2)  # the order of a million images takes as long to draw as a training step
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(derive("filter-order", seed, epoch)).permutation(count)


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Log-odds of being real for N real and N generated images that were not trained on."""

    real: NDArray[np.float64]  # (N,)
    generated: NDArray[np.float64]  # (N,), number i is of held-out latent i

    def to_json(self) -> dict[str, Any]:
        """Accuracy, area under the ROC curve, and the distribution of the scores in [0, 1], 1 = real.

        ``kept`` and ``rejected`` are the upper and the lower half of the generated images.
        """
        ranked = np.sort(self.generated)
        half = len(ranked) // 2
        return {
            "images": len(self.real),
            "accuracy": float(((self.real > 0).mean() + (self.generated < 0).mean()) / 2),
            "auc": auc(self.real, self.generated),
            "score_real": _distribution(self.real),
            "score_generated": _distribution(self.generated),
            "score_kept": _distribution(ranked[half:]),
            "score_rejected": _distribution(ranked[:half]),
        }


@torch.no_grad()
def score_held_out(scorer: Scorer, material: Material, batch_size: int) -> HeldOut:
    """Score the images of both kinds that were held out."""
    count = len(material.held_out)
    real, generated = [], []
    for start in range(0, count, batch_size):
        numbers = np.arange(start, min(start + batch_size, count), dtype=np.int64)
        real.append(scorer(material.held_out_real(numbers)))
        generated.append(scorer(material.generated(numbers, held_out=True)))
    return HeldOut(real=torch.cat(real).double().cpu().numpy(), generated=torch.cat(generated).double().cpu().numpy())


def auc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """Probability that one of ``higher`` exceeds one of ``lower``; a tie counts half."""
    ranked = np.sort(lower)
    below, up_to = np.searchsorted(ranked, higher, side="left"), np.searchsorted(ranked, higher, side="right")
    return float((below + up_to).sum() / (2 * len(higher) * len(lower)))


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in [0, 1]."""
    scores: NDArray[np.float64] = torch.from_numpy(log_odds).sigmoid().numpy()
    return scores


def _distribution(log_odds: NDArray[np.float64]) -> dict[str, float]:
    scores = sigmoid(log_odds)
    quantiles = {f"q{round(100 * q):02d}": float(np.quantile(scores, q)) for q in QUANTILES}
    return {"mean": float(scores.mean()), "std": float(scores.std()), **quantiles}
