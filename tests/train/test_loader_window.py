"""Windowed orders: pure, every position once, bounded in what is in use at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genrep.errors import ResumeError
from genrep.train import PairLoader
from genrep.train.data.order import Order, epoch_order, windowed_order

MakeDataset = Callable[..., Path]
BOUNDS = np.array([0, 10, 20, 30, 40, 50, 60, 65])
BYTES = np.array([100] * 6 + [50])


def order(window: int | str | None, seed: int = 0, epoch: int = 0) -> Order:
    return windowed_order(BOUNDS, BYTES, window, seed, epoch)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 6, "1KB"])
def test_every_position_once(window: int | str) -> None:
    assert sorted(order(window).positions.tolist()) == list(range(65))
    assert sorted(shard for group in order(window).shards for shard in group) == list(range(7))


def test_a_pure_function_and_pinned() -> None:
    first = order(4, seed=3, epoch=2)
    assert first.positions.tolist() == order(4, seed=3, epoch=2).positions.tolist()
    assert first.positions[:6].tolist() == [55, 58, 48, 41, 49, 59]
    others = {tuple(order(4, seed, epoch).positions) for seed in range(3) for epoch in range(3)}
    assert len(others) == 9
    assert len({tuple(map(tuple, order(4, 0, epoch).shards)) for epoch in range(6)}) > 1


@pytest.mark.parametrize(("window", "most"), [(2, 1), (4, 2), (5, 2), (6, 3), (1, 1)])
def test_two_windows_together_hold_no_more_shards_than_allowed(window: int, most: int) -> None:
    found = order(window)
    start = 0
    for end, shards in zip(found.ends, found.shards):
        assert len(shards) <= most
        drawn = np.unique(np.searchsorted(BOUNDS, found.positions[start:end], side="right") - 1)
        assert drawn.tolist() == sorted(shards)
        assert found.positions[start:end].tolist() != sorted(found.positions[start:end].tolist())
        start = end
    assert start == 65


def test_a_window_in_bytes() -> None:
    shard_bytes = np.array([10, 20, 30, 40, 50, 60]) * 1_000_000
    bounds = np.arange(0, 70, 10)
    for seed in range(20):
        for shards in windowed_order(bounds, shard_bytes, "120MB", seed, 0).shards:
            assert shard_bytes[shards].sum() <= 60_000_000
    assert all(len(group) == 1 for group in windowed_order(bounds, shard_bytes, "1KB", 0, 0).shards)


@pytest.mark.parametrize("window", [None, 7, 100, "1GB"])
def test_a_window_that_holds_everything_is_the_global_order(window: int | str | None) -> None:
    assert order(window, seed=2, epoch=1).positions.tolist() == epoch_order(65, 2, 1).tolist()


@pytest.mark.parametrize("window", [0, -1, "0GB", "0", "4 GB", "-3MB", "1e3GB"])
def test_other_windows_are_refused(dataset: MakeDataset, window: int | str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"shuffle_window {window!r}: wanted a number of shards, or")):
        PairLoader(dataset(), batch_size=4, shuffle_window=window)


def test_a_number_of_shards_may_be_text(dataset: MakeDataset) -> None:
    loaders = [PairLoader(dataset(), batch_size=4, shuffle_window=window) for window in ("2", 2)]
    assert (
        loaders[0].order(0).tolist()
        == loaders[1].order(0).tolist()
        != PairLoader(dataset(), batch_size=4).order(0).tolist()
    )
    loaders[0].load_state_dict(loaders[1].state_dict())


@pytest.mark.slow
def test_a_limited_set_in_windows(dataset: MakeDataset) -> None:
    loader = PairLoader(dataset(per_shard=4), batch_size=3, fields=("index",), limit=0.5, shuffle_window=4, seed=1)
    found = [i for batch in loader for i in batch["index"].tolist()]
    assert sorted(found) == loader.rows.tolist()
    assert len(found) == 20


def resident(folder: Path) -> set[str]:
    """Shards of which this process holds pages, by the kernel's account."""
    names, name = set(), ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            name = line.split("/")[-1] if str(folder) in line else ""
        elif name and line.startswith("Rss:") and int(line.split()[1]) > 0:
            names.add(name)
    return names


@pytest.mark.slow
def test_no_more_shards_are_in_memory_than_the_window_allows(dataset: MakeDataset) -> None:
    folder = dataset(per_shard=4)  # 10 shards
    loader = PairLoader(folder, batch_size=4, workers=1, shuffle_window=4)
    touched = [len(resident(folder)) for _ in range(2) for _ in loader]
    assert len(touched) == 20
    assert 2 <= max(touched) <= 4
    everything = PairLoader(folder, batch_size=4, workers=1)
    assert max(len(resident(folder)) for _ in everything) == 10


def test_a_cursor_of_another_window_is_refused(dataset: MakeDataset) -> None:
    state = PairLoader(dataset(), batch_size=4, shuffle_window=2).state_dict()
    with pytest.raises(ResumeError, match="shuffle_window is 2, this loader's is None"):
        PairLoader(dataset(), batch_size=4).load_state_dict(state)
