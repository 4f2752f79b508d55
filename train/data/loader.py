"""Batches of pairs from datasets: a pure order, a cursor to resume from, tensors that are the caller's own."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.errors import ResumeError, one_of
from genrep.machine import cores
from genrep.seeding import derive, uniforms

from .order import Order, ReadAhead, Window, mixture, parse_window, share, subset, windowed_order
from .outputs import Crops, Cuts
from .sets import POSITIVES, Data, Sets, Size, open_sets

TORCH = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32, np.dtype(np.int64): torch.int64}


class Buffers:
    """Tensors of up to ``rows`` samples of one shape, reused only when nothing refers to them. Safe to use from threads.

    FFCV's loader fills the same few buffers in turns, whoever still looks at them. Fresh memory for each batch is safe, but the
    system hands out large blocks page by page, zeroed: half the time of copying raw images. Here a block comes back when the
    last reference to its tensor, or to a view of it, is gone; a consumer that keeps a batch keeps its block.

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


MAX_WORKERS = 8
Batch = dict[str, Tensor]


def default_workers() -> int:
    """Threads that read ahead: the cores this process may use but one, at least one and at most ``MAX_WORKERS``."""
    return max(1, min(MAX_WORKERS, cores() - 1))


class PairLoader:
    """Iterates one or several datasets of pairs, or folders of images, in dictionaries of tensors.

    >>> loader = PairLoader("shards/", batch_size=256, seed=0, fields=("anchor", "positive", "index"))
    >>> for epoch in range(20):
    ...     for batch in loader:      # every index once per epoch
    ...         batch["anchor"]       # (256, H, W, 3) uint8

    Images are uint8 ``(B, H, W, 3)``, latents float32 ``(B, …)``; of the numbers, ``label``, ``index`` and the rows ``prompt``,
    ``source``, … of a set's own tables are int64 ``(B,)``, ``strength``, ``weight``, … float32 ``(B,)``. Latents that a dataset
    does not store are made again by the threads that read, if they are asked for. Every batch has its own memory, so that a
    batch that is kept never changes.

    The order is a pure function of the datasets, the arguments and the epoch, and ranks share each step's samples between them.
    An iteration runs from the cursor to the end of the epoch and leaves the cursor at the next epoch's start, so that
    ``state_dict`` taken after any batch, on any rank, resumes with the samples not yet seen, whatever the batch size and the
    number of ranks and workers then are.

    Opening checks the tables and sizes of the shards, not their bytes: see genrep-manifest verify.

    Args:
        data: a finished dataset or a folder of images, several of either, or what ``open_sets`` made of them. Several are
            one: ``index`` counts on from one to the next (see ``Sets``).
        batch_size: samples of a step, over all ranks; a multiple of ``world_size``.
        fields: those to read; None: all.
        positive: what ``positive`` and ``z_positive`` are. ``stored``: the first of the stored positives. ``random``: one
            of them, drawn for each epoch and index. ``all``: all K, shapes ``(B, K, H, W, 3)`` and ``(B, K, …)``.
            ``anchor``: not read. None: the first, and ``positive_1``, … the others, where all fields are read. The same is
            true of numbers that each positive has: ``strength`` (``strength_1``, …), ``prompt_1`` (``prompt_2``, …).
        mix: with two sets, this fraction of the first one's samples is replaced by images of the second
            (``mixture``): positions, and so ``index``, are the first one's.
        limit: train on this fraction of the samples, chosen by the seed.
        shuffle_window: for sets larger than memory, what may be in use at a time: shards, or bytes like ``"64GB"``
            (``window``). In a mixture, it applies to the first set.
        size: the size that whole pictures are cut to, see ``open_sets``.
        crops: cut every image to one size as pixel views do (``outputs.Crops``), each out of its whole picture: ``anchor`` by
            view 0, ``positive`` by view 1, … With ``positive="anchor"`` the anchor by all views: ``(B, V, S, S, 3)``.
        partial: accept datasets with missing shards.
        rank: this process's number. Its part of each step are consecutive samples of the step's ``batch_size``. The last step
            of an epoch is shared too, as evenly as can be, so that a rank's last batch may be short, or empty.
        world_size: how many processes there are.
        drop_last: leave out the incomplete last batch of an epoch.
        workers: threads that read ahead.
        pin_memory: page-locked tensors, for asynchronous copies to a GPU.

    Raises:
        DatasetError: a dataset is unfinished or damaged or lacks a field, or the sets' images differ in size.
        DataError: an image folder is empty.
        ValueError: an argument, named in the message.
    """

    def __init__(  # noqa: PLR0913  a public constructor: its settings are keywords
        self,
        data: Data | Sets,
        *,
        batch_size: int,
        seed: int = 0,
        fields: Sequence[str] | None = None,
        positive: str | None = None,
        mix: float | None = None,
        limit: float = 1.0,
        shuffle_window: Window | None = None,
        size: Size | None = None,
        crops: Crops | None = None,
        partial: bool = False,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        workers: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        _check(batch_size, positive, rank, world_size)
        self.sets = open_sets(data, partial=partial, size=size, whole=crops is not None)
        self.crops = crops
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.rank, self.world_size = rank, world_size
        self.mix, self.limit, self.shuffle_window = mix, limit, parse_window(shuffle_window)
        self._outputs = self.sets.outputs(fields, positive, crops)
        self.fields = tuple(output.name for output in self._outputs)
        self._draws = positive == "random" and self.sets.num_positives > 1
        self.rows, self._sources = self._choose_rows()
        self.workers = workers or default_workers()
        most = min(batch_size // world_size, len(self.rows))
        spare = self.workers + 2  # as many as are being filled and waited for, and the one in the caller's hands
        self._buffers = [
            Buffers(most, output.field.shape, output.field.dtype, spare=spare, pinned=pin_memory)
            for output in self._outputs
        ]
        self.epoch = 0
        self.position = 0  # samples of the epoch that have been given out, over all ranks

    def _choose_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows that positions stand for, ascending, and the rows that are read in their places."""
        sets, mix = self.sets, self.mix
        if mix is None:
            rows = subset(len(sets), self.limit, self.seed)
            return rows, rows
        if len(sets.parts) != 2 or not 0 <= mix <= 1:
            raise ValueError(f"mix {mix} of {len(sets.parts)} sets: wanted a fraction from 0 to 1, of two sets")
        first, second = map(len, sets.parts)
        rows = subset(first, self.limit, self.seed)
        places, drawn = mixture(len(rows), second, mix, self.seed)
        sources = rows.copy()
        sources[places] = first + drawn
        return rows, sources

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Positions in the datasets in the order in which the epoch visits them, over all ranks."""
        return self.rows[self._order(epoch).positions]

    def _order(self, epoch: int) -> Order:
        sets = self.sets
        shards = len(sets.shard_bytes if self.mix is None else sets.parts[0].shard_bytes)
        bounds = np.searchsorted(self.rows, sets.bounds[: shards + 1])
        return windowed_order(bounds, sets.shard_bytes[:shards], self.shuffle_window, self.seed, epoch)

    def __iter__(self) -> Iterator[Batch]:
        epoch, order = self.epoch, self._order(self.epoch)
        count, size = len(self.rows), self.batch_size
        starts = deque(range(self.position, count, size))
        if self.drop_last and starts and starts[-1] + size > count:
            starts.pop()
        ahead = ReadAhead(self.sets, order, self.position)
        pending: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="pair-loader") as pool:
            try:
                while starts or pending:
                    while starts and len(pending) <= self.workers:
                        step = order.positions[(start := starts.popleft()) : start + size]
                        pending.append(
                            pool.submit(self._read, step[share(len(step), self.rank, self.world_size)], epoch)
                        )
                    batch = pending.popleft().result()
                    if starts or pending:
                        ahead.reached(self.position)
                        self.position += size
                    else:
                        ahead.reached(count)
                        self._next_epoch(epoch)
                    yield batch
            finally:
                ahead.close()
                pool.shutdown(cancel_futures=True)
        if self.epoch == epoch:  # the cursor left no batch
            self._next_epoch(epoch)

    def _next_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch + 1, 0

    def _read(self, positions: NDArray[np.int64], epoch: int) -> Batch:
        """Fresh tensors of every field, for one batch."""
        index = self.sets.indices(self.rows[positions])
        uniform = None
        if self._draws:
            key = derive("which-positive", self.seed, epoch)
            uniform = uniforms(key, index, 0, 1)[:, 0]
        tensors = [buffers.tensor(len(positions)) for buffers in self._buffers]
        arrays = [tensor.numpy() for tensor in tensors]
        cuts = None if self.crops is None else Cuts(crops=self.crops, epoch=epoch, index=index)
        self.sets.read(self._sources[positions], self._outputs, arrays, uniform, cuts)
        batch = dict(zip(self.fields, tensors))
        if "index" in batch:
            batch["index"].numpy()[:] = index
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and the identity of the order that it is a position in. The same on every rank."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """Everything that the order is a function of."""
        return {
            "dataset_id": self.sets.identity,
            "seed": self.seed,
            "limit": self.limit,
            "mix": self.mix,
            "shuffle_window": self.shuffle_window,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a cursor. Raises ResumeError if it belongs to other datasets or to another order."""
        for name, ours in self._identity().items():
            if state.get(name) != ours:
                raise ResumeError(f"loader state: {name} is {state.get(name)!r}, this loader's is {ours!r}")
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


def _check(batch_size: int, positive: str | None, rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank}: wanted 0 to {world_size - 1}")
    if batch_size < 1 or batch_size % world_size:
        wanted = "at least 1" if world_size == 1 else f"a multiple of {world_size}, the number of ranks"
        raise ValueError(f"batch_size {batch_size}: wanted {wanted}")
    if positive not in (None, *POSITIVES):
        raise ValueError(f"positive {positive!r}: wanted one of {one_of(positive, POSITIVES)}")
