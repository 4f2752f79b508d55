"""Which candidates become which pairs: fixed blocks, so that pair i is a function of the recipe and i alone.

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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 64  # pairs of a block, at most


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
