"""PairLoader over ranks: together every index once, the same steps for any number of ranks, resumes with other numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genrep.train import PairLoader

MakeDataset = Callable[..., Path]
COUNT = 40  # of the default dataset


def ranks(folder: Path, world_size: int, batch_size: int, **options: Any) -> list[PairLoader]:
    return [
        PairLoader(
            folder, batch_size=batch_size, seed=5, fields=("index",), rank=rank, world_size=world_size, **options
        )
        for rank in range(world_size)
    ]


def steps(loaders: list[PairLoader], count: int | None = None) -> list[list[list[int]]]:
    """For each step the indices of each rank's batch; every rank makes as many steps."""
    found: list[list[list[int]]] = []
    for batches in zip(*loaders, strict=True) if count is None else zip(*(iter(loader) for loader in loaders)):
        found.append([batch["index"].tolist() for batch in batches])
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 12])
def test_a_steps_samples_do_not_depend_on_the_number_of_ranks(
    dataset: MakeDataset, world_size: int, window: int | None
) -> None:
    alone = steps(ranks(dataset(), 1, 12, shuffle_window=window))
    shared = steps(ranks(dataset(), world_size, 12, shuffle_window=window))
    assert [[i for part in step for i in part] for step in shared] == [step[0] for step in alone]
    assert sorted(i for step in alone for i in step[0]) == list(range(COUNT))
    for step in shared:
        sizes = [len(part) for part in step]
        assert max(sizes) - min(sizes) <= 1


def test_every_index_once_per_epoch_over_all_ranks(dataset: MakeDataset) -> None:
    loaders = ranks(dataset(), 3, 9)
    epochs = [steps(loaders) for _ in range(3)]
    for epoch in epochs:
        assert sorted(i for step in epoch for part in step for i in part) == list(range(COUNT))
        assert len(epoch) == len(loaders[0]) == 5
    assert epochs[0] != epochs[1]


def test_a_rank_without_samples_in_the_last_step_gets_an_empty_batch(dataset: MakeDataset) -> None:
    last = steps(ranks(dataset(), 3, 39))[-1]
    assert sorted(len(part) for part in last) == [0, 0, 1]


def test_drop_last_drops_the_incomplete_global_batch(dataset: MakeDataset) -> None:
    found = steps(ranks(dataset(), 4, 16, drop_last=True))
    assert [[len(part) for part in step] for step in found] == [[4, 4, 4, 4]] * 2


@pytest.mark.parametrize("window", [None, 2])
def test_resumes_with_other_numbers_of_ranks_give_exactly_the_rest(dataset: MakeDataset, window: int | None) -> None:
    seen: list[int] = []
    state: dict[str, Any] | None = None
    for world_size, batch_size, count in ((2, 8, 2), (4, 4, 1), (1, 7, 1), (3, 6, None)):
        loaders = ranks(dataset(), world_size, batch_size, shuffle_window=window, workers=world_size)
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
        found = steps(loaders, count)
        seen += [i for step in found for part in step for i in part]
        states = [loader.state_dict() for loader in loaders]
        assert all(one == states[0] for one in states)
        state = states[0]
    assert sorted(seen) == list(range(COUNT))
    whole = ranks(dataset(), 1, 8, shuffle_window=window)[0]
    assert seen == whole.order(0).tolist()
    assert state is not None
    assert (state["epoch"], state["position"]) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"encoding": "jpeg:95", "size": 24, "positives": 3}], ids=str)
def test_the_number_of_workers_changes_nothing(dataset: MakeDataset, options: dict[str, Any]) -> None:
    one, five = (
        list(PairLoader(dataset(**options), batch_size=7, seed=1, workers=workers, positive="random"))
        for workers in (1, 5)
    )
    for a, b in zip(one, five, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_refusals(dataset: MakeDataset) -> None:
    with pytest.raises(ValueError, match="batch_size 10: wanted a multiple of 3, the number of ranks"):
        PairLoader(dataset(), batch_size=10, rank=0, world_size=3)
    with pytest.raises(ValueError, match="rank 2: wanted 0 to 1"):
        PairLoader(dataset(), batch_size=10, rank=2, world_size=2)
