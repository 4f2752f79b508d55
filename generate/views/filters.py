"""``--filter keep=0.5,weights=FILE``: its scorer, its form in a recipe, and which candidates become pairs.

Candidates compete in fixed blocks, so that pair i is a function of the recipe and i alone.

HL samples a batch twice and keeps the better half. Here a block of pairs is a fixed set of indices with a fixed set of
candidates, and whoever wants one of its pairs judges the whole block. Candidate c has the latents and the condition (class, or
row of instance features) of index c of the same dataset without a filter.

Pair i must keep condition i mod C, so that labels stay balanced to within one, as without a filter: candidates compete only
with those of their own condition. With C conditions (1 if there are none):

- C <= 64: a block is g = 64 // C pairs of each condition. Of n = round(g / keep) candidates of each, the best g are kept
  (ties: the lower index), in the order of their indices. Without conditions that is HL's rule on blocks of 64.
- C > 64: g = 1, pair i is the best of n = round(1 / keep) candidates of its condition. Larger groups would tie pairs together
  that lie C indices apart: one shard would have to judge the candidates of many. A block is 64 consecutive pairs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError

from .base import ViewFile, read_file_and_number

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from .filter_network import LoadedFilter, Scorer

BLOCK = 64  # pairs of a block, at most
MIN_KEEP = 0.01  # a hundred candidates for a pair


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The blocks of a dataset whose pairs take ``conditions`` conditions in turn."""

    keep: float  # part of the candidates, 0 < keep < 1
    conditions: int = 1  # 1 = none

    @property
    def columns(self) -> int:
        """Groups of candidates that compete in a block."""
        return min(self.conditions, BLOCK)

    @property
    def kept(self) -> int:
        """g: pairs of a group."""
        return max(1, BLOCK // self.conditions)

    @property
    def drawn(self) -> int:
        """n: candidates of a group."""
        return round(self.kept / self.keep)

    @property
    def pairs(self) -> int:
        """Pairs of a block: number b holds ``b * pairs`` .. ``(b + 1) * pairs - 1``."""
        return self.kept * self.columns

    def candidates(self, block: int) -> NDArray[np.int64]:
        """Candidates of a block, a column for each group. Shape: ``(n, columns)``."""
        columns = np.arange(self.columns, dtype=np.int64)
        if self.conditions > BLOCK:
            turn, condition = np.divmod(block * self.pairs + columns, self.conditions)
        else:
            turn, condition = np.full_like(columns, block), columns
        rows = np.arange(self.drawn, dtype=np.int64)[:, None]
        found: NDArray[np.int64] = condition + self.conditions * (self.drawn * turn + rows)
        return found

    def select(self, block: int, scores: NDArray[np.floating]) -> NDArray[np.int64]:
        """The candidates that become the block's pairs, in order of pairs. Shape: ``(n, columns) -> (pairs,)``."""
        best = np.argsort(-scores, axis=0, kind="stable")[: self.kept]
        chosen: NDArray[np.int64] = np.take_along_axis(self.candidates(block), np.sort(best, axis=0), axis=0).ravel()
        return chosen


class Filter:
    """A discriminator on a device, and the fraction that it keeps. The caller's discriminator stays where it is."""

    def __init__(self, *, keep: float, scorer: Scorer, device: torch.device) -> None:
        import torch

        self.keep = keep
        self.scorer = copy.deepcopy(scorer).eval().requires_grad_(False)
        self.scorer = self.scorer.to(device).to(memory_format=torch.channels_last)

    def log_odds(self, levels: Tensor) -> Tensor:
        """Log-odds of being real: the score before the sigmoid, which would round the best ones to 1.

        Shape: ``(B, H, W, 3)`` uint8 -> ``(B,)`` float32.
        """
        import torch

        with torch.no_grad():
            scores: Tensor = self.scorer(levels)
            return scores


@dataclass(frozen=True, kw_only=True)
class FilterSpec:
    """A filter as given by the user; its file is read when it is first needed."""

    keep: float  # part of the candidates that is kept
    weights: Path  # file, or run folder of fit-filter

    def __post_init__(self) -> None:
        if not MIN_KEEP <= self.keep < 1:
            raise RecipeError.naming("{filter}: keep={}, wanted at least {} and less than 1", self.keep, MIN_KEEP)

    @cached_property
    def loaded(self) -> LoadedFilter:
        """The file's content. Raises WeightsError."""
        from .filter_network import load_filter

        return load_filter(self.weights)

    def check(self, shape: tuple[int, int], conditions: int) -> None:
        """Check that images of a shape (height, width) with this number of conditions can be filtered.

        Raises:
            RecipeError: the filter is for images of another shape, or ``keep`` would drop nothing.
            WeightsError: its file cannot be read.
        """
        scorer = self.loaded.scorer
        if (scorer.height, scorer.width) != shape:
            raise RecipeError.naming(
                "{filter}: {} scores images of {}x{}, this recipe's are {}x{}",
                self.weights,
                scorer.height,
                scorer.width,
                shape[0],
                shape[1],
            )
        blocks = self.blocks(conditions)
        if blocks.drawn == blocks.kept:
            most = blocks.kept / (blocks.kept + 1)
            raise RecipeError.naming(
                "{filter}: keep={} would keep all {} candidates that compete for {} pairs of each of {} "
                "conditions, wanted at most {:.3g}",
                self.keep,
                blocks.drawn,
                blocks.kept,
                conditions,
                most,
            )

    def blocks(self, conditions: int) -> Blocks:
        """The blocks of a dataset whose pairs take this number of conditions in turn; 0 or 1 = none."""
        return Blocks(keep=self.keep, conditions=max(1, conditions))

    def open(self, device: torch.device) -> Filter:
        """The filter, ready to judge on a device. Raises WeightsError."""
        return Filter(keep=self.keep, scorer=self.loaded.scorer, device=device)

    def files(self) -> tuple[ViewFile, ...]:
        """The file that the filter was read from."""
        return (ViewFile(digest=self.loaded.digest, path=self.loaded.path, sha256=self.loaded.sha256),)

    def to_json(self) -> dict[str, Any]:
        """The filter in the form of a recipe: everything that the choice of pairs depends on. Reads the file."""
        return {"keep": self.keep, "weights": self.loaded.digest, "block": BLOCK}


def parse_filter(text: str) -> FilterSpec:
    """Read ``keep=0.5,weights=FILE``, in any order; ``keep`` is HL's half if it is not given.

    Raises:
        RecipeError: an unknown or repeated key, no weights, or a fraction that is not a number inside (0, 1).
    """
    path, keep = read_file_and_number(
        text, "filter", "weights", "keep", usual="0.5", shown="keep=PART or weights=FILE", command="fit-filter"
    )
    return FilterSpec(keep=keep, weights=path)
