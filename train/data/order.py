"""The order of samples: pure functions of (count, seed, epoch), from streams that NumPy's policy freezes.

For sets larger than memory shards are shuffled, then the samples within a window of shards. At any time two windows are in use:
the one that samples are drawn from, and the next, which is being read ahead from the disk in one go. Each is half of what the
user allows. A window that would hold the whole set is no window, but the global order.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import derive


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``range(count)``; nearby seeds and epochs share nothing. Shape: ``(count,)``."""
    return stream(derive("order", seed, epoch)).permutation(count).astype(np.int64)


def subset(count: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """A random ``round(fraction · count)`` of ``range(count)``, at least one, ascending.

    For one seed a larger fraction holds every smaller one. Shape: ``(K,)``.
    """
    if fraction >= 1:
        return np.arange(count)
    kept = subset_size(count, fraction)
    return np.sort(stream(derive("subset", seed)).permutation(count)[:kept].astype(np.int64))


def subset_size(count: int, fraction: float) -> int:
    """How many ``subset`` keeps."""
    return count if fraction >= 1 else max(1, round(fraction * count))


def stream(key: int) -> np.random.RandomState:
    """The random numbers of a key, which ``derive`` makes."""
    return np.random.RandomState([key & 0xFFFFFFFF, key >> 32])


def share(count: int, rank: int, world_size: int) -> slice:
    """A rank's part of a step's ``count`` samples: consecutive ones; the parts' sizes differ by at most one."""
    return slice(count * rank // world_size, count * (rank + 1) // world_size)


def mixture(count: int, others: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``--mix``: which of ``range(count)`` are replaced, and by which of ``range(others)``: ``round(fraction · count)`` pairs.

    GenRep's code (its Figure 9) tossed a coin at every access, from a stream that workers shared, and took the image of the
    same number from the other set: no exact part, not the same from epoch to epoch, nor able to draw from a smaller set.

    No image of the other set comes twice before each has come once. For one seed, a larger fraction replaces every place
    that a smaller one does. Both ascend, so that a window of shards (``windowed_order``) needs a run of the other set too: who
    replaces whom decides nothing but the index under which pixel views are drawn. Shape: ``(K,)`` each.
    """
    replaced = round(fraction * count)
    random = stream(derive("mix", seed))
    places = random.permutation(count)[:replaced].astype(np.int64)
    rounds = -(-replaced // others)
    drawn = np.concatenate([np.empty(0, dtype=np.int64), *(random.permutation(others) for _ in range(rounds))])
    return np.sort(places), np.sort(drawn[:replaced].astype(np.int64))


UNITS = {"KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000}
SIZE = re.compile(rf"[1-9]\d{{0,8}}({'|'.join(UNITS)})?")
Window = int | str  # shards, or bytes with a unit


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of an epoch."""

    positions: NDArray[np.int64]  # a permutation of range(count)
    ends: list[int]  # where in ``positions`` each window ends
    shards: list[list[int]]  # of each window


def windowed_order(
    bounds: NDArray[np.int64], shard_bytes: NDArray[np.int64], window: Window | None, seed: int, epoch: int
) -> Order:
    """The order of the positions ``0 … bounds[-1] - 1``, of which shard k holds ``bounds[k] … bounds[k + 1] - 1``.

    A pure function of its arguments; without a window, ``epoch_order``.

    Args:
        bounds: Shape ``(S + 1,)``.
        shard_bytes: Shape ``(S,)``.
        window: what may be in use at a time, shards or bytes (``"64GB"``); at least two shards are.

    Raises ValueError for a window that is neither.
    """
    groups = _windows(shard_bytes, window, stream(derive("order-of-shards", seed, epoch)))
    if len(groups) == 1:
        count = int(bounds[-1])
        return Order(positions=epoch_order(count, seed, epoch), ends=[count], shards=[list(range(len(shard_bytes)))])
    within = stream(derive("order-in-windows", seed, epoch))
    parts = []
    for group in groups:
        part = np.concatenate([np.arange(bounds[shard], bounds[shard + 1]) for shard in group])
        parts.append(within.permutation(part).astype(np.int64))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return Order(positions=np.concatenate(parts), ends=ends, shards=groups)


def _windows(shard_bytes: NDArray[np.int64], window: Window | None, random: np.random.RandomState) -> list[list[int]]:
    """The shards of each window; one window of all of them where they fit."""
    weights, budget = _budget(shard_bytes, window)
    if budget is None or weights.sum() <= budget:
        return [list(range(len(weights)))]
    groups: list[list[int]] = []
    used = budget + 1
    for shard in random.permutation(len(weights)).tolist():
        if 2 * (used + weights[shard]) > budget:
            groups.append([])
            used = 0
        groups[-1].append(shard)
        used += int(weights[shard])
    return groups


def _budget(shard_bytes: NDArray[np.int64], window: Window | None) -> tuple[NDArray[np.int64], int | None]:
    """The weight of each shard, and the total that may be in use; None means no limit."""
    window = parse_window(window)
    if window is None:
        return shard_bytes, None
    if isinstance(window, int):
        return np.ones_like(shard_bytes), window
    return shard_bytes, int(window[:-2]) * UNITS[window[-2:]]


def parse_window(window: Window | None) -> Window | None:
    """A number of shards as an int, also from text; bytes with a unit, and None, as they are. Raises ValueError otherwise."""
    good = window is None or (window >= 1 if isinstance(window, int) else SIZE.fullmatch(window) is not None)
    if not good:
        raise ValueError(f"shuffle_window {window!r}: wanted a number of shards, or of bytes like '64GB'")
    return int(window) if isinstance(window, str) and window.isdecimal() else window


class Advised(Protocol):
    """An object that can be told which of its shards are needed."""

    def will_need(self, shard: int) -> None: ...
    def done_with(self, shard: int) -> None: ...


class ReadAhead:
    """Reads the present window and the next into memory in its own thread, and releases the earlier ones."""

    def __init__(self, data: Advised, order: Order, position: int) -> None:
        self.data, self.order = data, order
        self.window = self.wanted = int(np.searchsorted(order.ends, position, side="right"))
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead") if len(order.ends) > 1 else None
        self._want()

    def reached(self, position: int) -> None:
        """All samples before this position have been read."""
        while self.window < len(self.order.ends) and self.order.ends[self.window] <= position:
            if self.pool is not None:
                for shard in self.order.shards[self.window]:
                    self.data.done_with(shard)
            self.window += 1
        self._want()

    def _want(self) -> None:
        while self.pool is not None and self.wanted < min(self.window + 2, len(self.order.ends)):
            for shard in self.order.shards[self.wanted]:
                self.pool.submit(self.data.will_need, shard)
            self.wanted += 1

    def close(self) -> None:
        """Read no further ahead."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
