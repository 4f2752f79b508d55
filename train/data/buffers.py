"""Memory for batches: used again only when nobody holds a tensor of it any more.

FFCV's loader fills the same few buffers in turns, whoever still looks at them. Fresh memory for each batch is safe, but the
system hands out large blocks page by page, zeroed: half the time of copying raw images. Here a block comes back when the last
reference to its tensor, or to a view of it, is gone; a consumer that keeps a batch keeps its block.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TORCH = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32, np.dtype(np.int64): torch.int64}


class Buffers:
    """Tensors of up to ``rows`` samples of one shape. Safe to use from several threads.

    ``spare`` blocks are kept for reuse. Page-locked memory (``pinned``) is left to PyTorch's own cache, which knows of
    copies to the device that are still under way.
    """

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, spare: int, pinned: bool) -> None:
        self.rows, self.shape, self.dtype, self.spare, self.pinned = rows, shape, dtype, spare, pinned
        self._values = math.prod(shape)  # of a sample
        self._free: list[
            NDArray[Any]
        ] = []  # append and pop are atomic; a lock could be asked for twice, by the collector

    def tensor(self, rows: int) -> Tensor:
        """A tensor of shape ``(rows, *shape)`` whose content is undefined."""
        if self.pinned:
            return torch.empty((rows, *self.shape), dtype=TORCH[self.dtype], pin_memory=True)
        try:
            block = self._free.pop()
        except IndexError:
            block = np.empty(self.rows * self._values, dtype=self.dtype)
        array = block[: rows * self._values].reshape(rows, *self.shape)
        # The tensor's storage holds this very array, and each view of the tensor holds the storage.
        weakref.finalize(array, self._give_back, block).atexit = False
        return torch.from_numpy(array)

    def _give_back(self, block: NDArray[Any]) -> None:
        if len(self._free) < self.spare:
            self._free.append(block)
