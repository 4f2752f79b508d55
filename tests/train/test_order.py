"""Orders are pure functions, pinned by values."""

from __future__ import annotations

import numpy as np

from genrep.train.data.order import epoch_order, subset


def test_an_epoch_is_a_permutation_and_pinned() -> None:
    assert sorted(epoch_order(1000, 3, 5)) == list(range(1000))
    assert epoch_order(8, 0, 0).tolist() == [7, 4, 3, 2, 1, 6, 0, 5]
    assert epoch_order(8, 0, 1).tolist() == [1, 3, 5, 7, 0, 2, 4, 6]


def test_seeds_do_not_share_epochs() -> None:
    """FFCV's RANDOM order of seed 0, epoch 1 is that of seed 1, epoch 0."""
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_subsets_are_nested_and_of_the_stated_size() -> None:
    small, large = subset(1000, 0.1, 7), subset(1000, 0.25, 7)
    assert (len(small), len(large)) == (100, 250)
    assert set(small) < set(large)
    assert (np.diff(large) > 0).all()
    assert subset(1000, 1.0, 7).tolist() == list(range(1000))
    assert len(subset(10, 0.001, 0)) == 1
    assert set(small) != set(subset(1000, 0.1, 8))
