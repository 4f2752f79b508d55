"""Segmentation by the nearest training patches: each pixel of a patch takes the most frequent class among theirs at its place.

The rule of CAPI's code (Darcet et al. 2025, ``eval_segmentation.py``). Features may lie in files: a block of training patches
is held at a time, with the best so far of every test patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrep.knn import best_of_block, rows_of
from genrep.progress import Progress

from .layout import VOID

QUERIES = 1024  # test patches at a time; the last block is filled up, since other shapes may add up in another order
KEYS = 16_384  # training patches at a time
VOTERS = 256  # test patches that are voted on at a time
STATISTICS = 1 << 16  # patches at a time
Ints = NDArray[np.int64]
Labels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Patches:
    """The patches of images with the classes of their pixels, and the standardisation of their features."""

    features: Tensor  # (N, C) float32 on the CPU, perhaps in a file
    labels: Labels  # (N, pixels of a patch)
    mean: Tensor  # (C,)
    scale: Tensor  # (C,)

    def __len__(self) -> int:
        return len(self.features)

    def standardised(self, rows: Ints, device: torch.device) -> Tensor:
        """Shape: ``(len(rows), C)``."""
        return (self.features[torch.from_numpy(rows)].to(device) - self.mean.to(device)) / self.scale.to(device)


def patch_labels(masks: Labels, grid: tuple[int, int]) -> Labels:
    """The pixels of each patch. Shape: ``(N, S, S) -> (N * h * w, S / h * S / w)``."""
    count, side = masks.shape[:2]
    high, wide = grid
    cut = masks.reshape(count, high, side // high, wide, side // wide).transpose(0, 1, 3, 2, 4)
    return cut.reshape(count * high * wide, -1)


def statistics(features: Tensor, rows: Ints) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1 where it is 0) of each channel over some rows. Shape: ``(N, C) -> (C,)`` each."""
    blocks = [torch.from_numpy(rows[first : first + STATISTICS]) for first in range(0, len(rows), STATISTICS)]
    mean = torch.stack([features[block].double().sum(dim=0) for block in blocks]).sum(dim=0) / len(rows)
    squares = torch.stack([(features[block].double() - mean).square().sum(dim=0) for block in blocks]).sum(dim=0)
    deviation = (squares / len(rows)).sqrt()
    return mean.float(), torch.where(deviation == 0, torch.ones_like(deviation), deviation).float()


def modes(values: Labels) -> Labels:
    """The most frequent value along axis 1, of several the smallest. Shape: ``(N, k, ...) -> (N, ...)``."""
    ordered = np.sort(values, axis=1)
    best, run = ordered[:, 0].copy(), np.ones(ordered[:, 0].shape, dtype=np.int64)
    longest = run.copy()
    for j in range(1, values.shape[1]):
        run = np.where(ordered[:, j] == ordered[:, j - 1], run + 1, 1)
        better = run > longest
        best[better], longest[better] = ordered[:, j][better], run[better]
    return best


def usable(labels: Labels) -> Ints:
    """Rows whose most frequent class is not void."""
    blocks = [modes(labels[first : first + STATISTICS]) for first in range(0, len(labels), STATISTICS)]
    return np.flatnonzero(np.concatenate(blocks) != VOID).astype(np.int64, copy=False)


@torch.no_grad()
def nearest(
    keys: Patches, rows: Ints, queries: Patches, asked: Ints, k: int, distance: str, device: torch.device
) -> Ints:
    """For each asked row of ``queries`` the k nearest of these rows of ``keys``, nearest first; of equal ones the earlier.

    Shape: ``-> (len(asked), min(k, len(rows)))``, numbers of rows of ``keys``.

    Args:
        distance: ``cosine`` or ``L2``.
    """
    best = torch.empty(len(asked), 0, dtype=torch.int64)
    with Progress(-(-len(rows) // KEYS), "block", f"nearest patches by {distance}") as progress:
        for first in range(0, len(rows), KEYS):
            block = keys.standardised(rows[first : first + KEYS], device)
            lengths = block.square().sum(dim=1) / 2
            block = F.normalize(block, dim=1) if distance == "cosine" else block
            found = []
            for at in range(0, len(asked), QUERIES):
                query = queries.standardised(asked[at : at + QUERIES], device)
                count = len(query)
                query = F.normalize(query, dim=1) if distance == "cosine" else query
                similarity = F.pad(query, (0, 0, 0, QUERIES - count)) @ block.T
                if distance == "L2":  # half the squared distance, but for the query's own length
                    similarity -= lengths
                new = best_of_block(similarity[:count], first, k).cpu()
                both = torch.cat([best[at : at + count], new], dim=1)
                found.append(both.topk(min(k, both.shape[1]), dim=1).values)
            best = torch.cat(found)
            progress.update(1)
    return rows[rows_of(best).numpy()]


def voted(keys: Patches, neighbours: Ints) -> Labels:
    """The pixels of each patch by the vote of its neighbours' at the same place. Shape: ``(M, k) -> (M, pixels)``.

    It takes memory for k masks of each: give ``VOTERS`` of them at a time.
    """
    return modes(keys.labels[neighbours])
