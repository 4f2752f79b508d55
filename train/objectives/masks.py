"""Which patches a student does not see: functions of (seed, step, index of the sample, view), on any number of processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.errors import TrainingError, one_of
from genrep.seeding import derive, uniforms

MASK_SHAPES = ("block", "random")
LEAST_ASPECT = 0.3  # of a block; the greatest is 1 / .3 (BEiT, Bao et al. 2022, algorithm 1)
BLOCK_TRIES, ALL_TRIES = 10, 60  # of one block (iBOT's code), and of a whole mask


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """An image is masked with ``mask_probability``, and then a part of its patches that is uniform between the ``mask_ratio``.

    Shape ``block``: rectangles, as BEiT and iBOT have them, until that part is reached. The last may not fit; then fewer are
    masked. ``random``: exactly that part, rounded down, wherever it is (SynCLR). Raises TrainingError.
    """

    mask_probability: float = 0.5
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    mask_shape: str = "block"

    def __post_init__(self) -> None:
        if not 0 < self.mask_probability <= 1:
            raise TrainingError.naming("{mask_probability} {}: wanted more than 0, at most 1", self.mask_probability)
        ratio, shape = tuple(self.mask_ratio), self.mask_shape
        if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1] < 1):
            text = ",".join(f"{part:g}" for part in ratio)
            raise TrainingError.naming("{mask_ratio} {}: wanted two parts of the patches, 0 < LOW <= HIGH < 1", text)
        if shape not in MASK_SHAPES:
            raise TrainingError.naming("{mask_shape} {!r}: wanted one of {}", shape, one_of(shape, MASK_SHAPES))
        if callable(rest := getattr(super(), "__post_init__", None)):
            rest()


class MaskDraws:
    """Draws masks of patches."""

    def __init__(self, seed: int, options: MaskOptions) -> None:
        self.seed = seed
        self.probability, self.ratio, self.shape = options.mask_probability, options.mask_ratio, options.mask_shape

    def draw(self, step: int, index: Tensor, views: int, grid: tuple[int, int]) -> Tensor:
        """Masks of all global views, view by view.

        Args:
            index: Shape ``(B,)``, on the CPU.

        Returns:
            bool, shape ``(V·B, h·w)``, on the CPU; True: masked.
        """
        seed, rows = derive("masks", self.seed, step), index.numpy().astype(np.int64)
        patches = grid[0] * grid[1]
        amount = patches if self.shape == "random" else 4 * ALL_TRIES
        made = []
        for view in range(views):
            numbers = uniforms(seed, rows, view, 2 + amount)
            low, high = self.ratio
            counts = np.where(numbers[:, 0] < self.probability, patches * (low + (high - low) * numbers[:, 1]), 0.0)
            if self.shape == "random":
                made.append(_random(counts, numbers[:, 2:]))
            else:
                made.extend(_blocks(count, grid, own)[None] for count, own in zip(counts, numbers[:, 2:]))
        return torch.from_numpy(np.concatenate(made))


def _random(counts: NDArray[np.floating[Any]], order: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """The patches whose numbers are lowest. Shape: ``(B,), (B, P) -> (B, P)``."""
    ranks = order.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    found: NDArray[np.bool_] = ranks < np.floor(counts)[:, None]
    return found


def _blocks(wanted: float, grid: tuple[int, int], numbers: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Rectangles that mask no more than the wanted number of patches. Shape: ``-> (P,)``."""
    high, wide = grid
    mask = np.zeros(grid, dtype=bool)
    least, masked, tries = (min(high, wide) // 3) ** 2, 0, 0
    for area, aspect, down, right in numbers.reshape(-1, 4).tolist():
        room = wanted - masked
        if room <= 0 or tries == BLOCK_TRIES:
            break
        tries += 1
        size = least + (room - least) * area
        ratio = math.exp(math.log(LEAST_ASPECT) * (1 - 2 * aspect))
        tall, broad = round(math.sqrt(max(size, 0) * ratio)), round(math.sqrt(max(size, 0) / ratio))
        if tall >= high or broad >= wide:
            continue
        top, left = int(down * (high - tall + 1)), int(right * (wide - broad + 1))
        block = mask[top : top + tall, left : left + broad]
        new = block.size - int(block.sum())
        if 0 < new <= room:
            block[:] = True
            masked, tries = masked + new, 0
    return mask.ravel()
