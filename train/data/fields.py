"""The fields of samples, and where those of a batch go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

VARYING = (-1, -1, 3)

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Field:
    """Type and shape of a field of a sample."""

    shape: tuple[int, ...]  # VARYING: each sample's image has a height and width of its own
    dtype: np.dtype[Any]


class Destination(NamedTuple):
    """Where a stored field goes: row ``places[i]`` of ``out`` receives that of sample ``rows[i]``."""

    names: tuple[str, ...]  # one field, or several to choose from
    out: NDArray[Any]  # (B, …), each row contiguous
    choice: NDArray[np.int64] | None = None  # (len(rows),): which of the names, for each row

    def chosen(self, count: int) -> list[str]:
        """The field that each of ``count`` rows reads."""
        return [self.names[0]] * count if self.choice is None else [self.names[k] for k in self.choice.tolist()]
