"""Nearest patches and their votes, against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrep.evaluate.segmentation import neighbours
from genrep.evaluate.segmentation.neighbours import Patches, modes, nearest, patch_labels, statistics, usable, voted

CPU = torch.device("cpu")


def patches(count: int, seed: int) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    features = 3 + 2 * torch.randn(count, 6, generator=generator)
    features[:, 2] = 7.0  # a channel that says nothing
    labels = np.random.RandomState(seed).choice([0, 1, 2, 255], (count, 4)).astype(np.uint8)
    mean, scale = statistics(features, np.arange(count))
    return Patches(features=features, labels=labels, mean=mean, scale=scale)


def test_features_are_standardised_as_by_scikit_learn() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    found = patches(50, 0)
    rows = np.arange(10, 50)
    mean, scale = statistics(found.features, rows)
    theirs = preprocessing.StandardScaler().fit(found.features[10:].double().numpy())
    assert mean.numpy() == pytest.approx(theirs.mean_, rel=1e-6)
    assert scale.numpy() == pytest.approx(theirs.scale_, rel=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "L2"])
def test_the_nearest_rows_in_blocks_are_those_of_a_plain_search(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, queries = patches(60, 0), patches(11, 1)
    rows = np.array([i for i in range(60) if i % 7])
    asked = np.arange(11)
    a, b = (one.standardised(which, CPU).double() for one, which in ((queries, asked), (keys, rows)))
    if distance == "cosine":
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    wanted = rows[torch.cdist(a, b).argsort(dim=1, stable=True)[:, :5].numpy()]
    assert (nearest(keys, rows, queries, asked, 5, distance, CPU) == wanted).all()
    monkeypatch.setattr(neighbours, "KEYS", 8)
    monkeypatch.setattr(neighbours, "QUERIES", 4)
    assert (nearest(keys, rows, queries, asked, 5, distance, CPU) == wanted).all()
    assert nearest(keys, rows[:3], queries, asked, 5, distance, CPU).shape == (11, 3)


def test_of_equally_near_patches_the_earlier_ones_are_taken() -> None:
    keys = patches(4, 0)
    same = Patches(
        features=keys.features[:1].repeat(9, 1), labels=np.zeros((9, 4), np.uint8), mean=keys.mean, scale=keys.scale
    )
    assert (nearest(same, np.arange(9), keys, np.arange(2), 3, "L2", CPU) == [0, 1, 2]).all()


def test_modes_are_the_most_frequent_values_of_several_the_smallest() -> None:
    values = np.random.RandomState(0).choice([0, 3, 7, 255], (40, 6, 5)).astype(np.uint8)
    found = modes(values)
    for i in range(40):
        for j in range(5):
            there, counts = np.unique(values[i, :, j], return_counts=True)
            assert found[i, j] == there[counts.argmax()]
    assert (torch.from_numpy(values).mode(dim=1).values.numpy() == found).all()


def test_each_pixel_is_voted_on_by_itself() -> None:
    keys = patches(30, 0)
    rows = np.random.RandomState(1).randint(0, 30, (7, 3))
    wanted = torch.from_numpy(keys.labels[rows]).mode(dim=1).values.numpy()
    assert (voted(keys, rows) == wanted).all()


def test_patches_hold_their_own_pixels() -> None:
    masks = np.arange(2 * 6 * 6).reshape(2, 6, 6).astype(np.uint8)
    found = patch_labels(masks, (3, 2))
    assert found.shape == (12, 6)
    assert found[0].tolist() == masks[0, :2, :3].ravel().tolist()
    assert found[11].tolist() == masks[1, 4:, 3:].ravel().tolist()


def test_patches_that_are_mostly_void_are_not_fitted_on() -> None:
    labels = np.array([[255, 255, 1], [255, 1, 1], [255, 2, 1]], dtype=np.uint8)
    assert usable(labels).tolist() == [1, 2]
