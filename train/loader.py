"""Batches of pairs from a dataset's shards: a pure order, a cursor to resume from, tensors that are the caller's own."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.datasets_manifest import read_manifest
from genrep.errors import DatasetError, ResumeError
from genrep.pixel_views.streams import uniforms
from genrep.seeding import derive

from .order import epoch_order, subset
from .shards import Shards

MAX_WORKERS = 8
Batch = dict[str, Tensor]


def default_workers() -> int:
    """Threads that read ahead: the cores this process may use but one, at least one and at most ``MAX_WORKERS``."""
    return max(1, min(MAX_WORKERS, len(os.sched_getaffinity(0)) - 1))


class PairLoader:
    """Iterates a dataset of pairs in dictionaries of tensors.

    >>> loader = PairLoader("shards/", batch_size=256, seed=0, fields=("anchor", "positive", "index"))
    >>> for epoch in range(20):
    ...     for batch in loader:      # every index once per epoch
    ...         batch["anchor"]       # (256, H, W, 3) uint8

    Images are uint8 ``(B, H, W, 3)``, latents float32 ``(B, …)``, ``label`` and ``index`` int64 ``(B,)``.

    An iteration runs from the cursor to the end of the epoch and leaves the cursor at the next epoch's start, so that
    ``state_dict`` taken after any batch resumes with the samples not yet seen, whatever the batch size then is.
    """

    def __init__(
        self,
        data: str | Path,
        *,
        batch_size: int,
        seed: int = 0,
        fields: Sequence[str] | None = None,
        random_positive: bool = False,
        limit: float = 1.0,
        drop_last: bool = False,
        workers: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        """Open the dataset and check the tables and sizes of its shards (not their bytes: see genrep-manifest verify).

        Args:
            fields: those to read; None: all.
            random_positive: let ``positive`` and ``z_positive`` be one of the stored positives, drawn for each epoch and
                index; otherwise they are the first, and ``positive_1``, … the others.
            limit: train on this fraction of the samples, chosen by the seed.
            drop_last: leave out the incomplete last batch of an epoch.
            workers: threads that read ahead.
            pin_memory: page-locked tensors, for asynchronous copies to a GPU.

        Raises:
            DatasetError: the dataset is unfinished or damaged, or lacks a field.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: wanted at least 1")
        folder = Path(data)
        self.manifest = read_manifest(folder)
        self.shards = Shards(folder, self.manifest)
        self.batch_size, self.seed, self.drop_last, self.pin_memory = batch_size, seed, drop_last, pin_memory
        self.fields = tuple(fields) if fields is not None else tuple(self.shards.columns)
        missing = [name for name in self.fields if name not in self.shards.columns]
        if missing:
            raise DatasetError(f"{folder}: has no field {missing[0]!r}; it has {', '.join(self.shards.columns)}")
        self.random_positive = random_positive and self.manifest.num_positives > 1
        self.limit = limit
        self.rows = subset(len(self.shards), limit, seed)
        self.workers = workers or default_workers()
        self.epoch = 0
        self.position = 0  # samples of the epoch that have been given out

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Positions in the dataset in the order in which the epoch visits them."""
        return self.rows[epoch_order(len(self.rows), self.seed, epoch)]

    def __iter__(self) -> Iterator[Batch]:
        epoch, order = self.epoch, self.order(self.epoch)
        starts = deque(range(self.position, len(order), self.batch_size))
        if self.drop_last and starts and starts[-1] + self.batch_size > len(order):
            starts.pop()
        pending: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="pair-loader") as pool:
            try:
                while starts or pending:
                    while starts and len(pending) <= self.workers:
                        start = starts.popleft()
                        pending.append(pool.submit(self._read, order[start : start + self.batch_size], epoch))
                    batch = pending.popleft().result()
                    if starts or pending:
                        self.position += self.batch_size
                    else:
                        self._next_epoch(epoch)
                    yield batch
            finally:
                pool.shutdown(cancel_futures=True)
        if self.epoch == epoch:  # the cursor left no batch
            self._next_epoch(epoch)

    def _next_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch + 1, 0

    def _read(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Fresh tensors of every field, for one batch."""
        batch = {}
        for name in self.fields:
            column = self.shards.columns[name]
            dtype = torch.from_numpy(np.empty(0, column.dtype)).dtype
            tensor = torch.empty((len(rows), *column.shape), dtype=dtype, pin_memory=self.pin_memory)
            if self.random_positive and name in ("positive", "z_positive"):
                self._read_random_positive(name, rows, epoch, tensor.numpy())
            else:
                self.shards.read(name, rows, tensor.numpy())
            batch[name] = tensor
        return batch

    def _read_random_positive(self, name: str, rows: NDArray[np.int64], epoch: int, out: NDArray[Any]) -> None:
        u = uniforms(derive("which-positive", self.seed, epoch), rows, np.zeros(1, dtype=np.int64))[:, 0]
        which = (u * self.manifest.num_positives).astype(np.int64)
        for k in np.unique(which).tolist():
            here = np.flatnonzero(which == k)
            found = np.empty((len(here), *out.shape[1:]), dtype=out.dtype)
            self.shards.read(f"{name}_{k}" if k else name, rows[here], found)
            out[here] = found

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and what it is a cursor into."""
        state = {"epoch": self.epoch, "position": self.position}
        return {**state, "dataset_id": self.manifest.id, "seed": self.seed, "limit": self.limit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a cursor. Raises ResumeError if it belongs to another dataset, seed or limit."""
        ours = self.state_dict()
        for name in ("dataset_id", "seed", "limit"):
            if state[name] != ours[name]:
                raise ResumeError(f"loader state: {name} is {state[name]!r}, this loader's is {ours[name]!r}")
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
