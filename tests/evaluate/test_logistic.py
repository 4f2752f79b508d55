"""Logistic regression by L-BFGS agrees with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from genrep.evaluate.linear import logistic
from genrep.evaluate.linear.config import L2_GRID
from genrep.evaluate.linear.logistic import fit_logistic, held_out, probe_logistic
from genrep.evaluate.linear.scores import Features, evaluate_heads

CPU = torch.device("cpu")
CLASSES, DIM = 7, 20


def features(count: int, seed: int) -> Features:
    """Overlapping clusters whose features differ in scale, as an encoder's do."""
    centres = np.random.RandomState(5).randn(CLASSES, DIM)
    stream = np.random.RandomState(seed)
    labels = stream.randint(0, CLASSES, count)
    x = (centres[labels] + 1.5 * stream.randn(count, DIM)) * np.geomspace(0.05, 5, DIM)
    return Features(features=torch.from_numpy(x).float(), labels=torch.from_numpy(labels))


@pytest.mark.slow
@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_the_same_classifier_as_scikit_learns(l2: float) -> None:
    train, test = features(3000, 0), features(3000, 1)
    ours = fit_logistic(train, num_classes=CLASSES, l2=l2, device=CPU)
    theirs = LogisticRegression(C=1 / (l2 * len(train)), max_iter=10000, tol=1e-6)
    theirs.fit(train.features.double().numpy(), train.labels.numpy())
    found = evaluate_heads(ours.logits, test, 1, CLASSES, CPU)[0]
    wanted = 100 * theirs.score(test.features.double().numpy(), test.labels.numpy())
    assert found.top1 == pytest.approx(wanted, abs=0.1)
    logits = torch.from_numpy(theirs.decision_function(test.features.double().numpy())).float()
    torch.testing.assert_close(ours.logits(test.features)[:, 0].softmax(1), logits.softmax(1), atol=2e-2, rtol=0)


@pytest.mark.slow
def test_the_penalty_is_chosen_on_training_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = L2_GRID[12:40:4]
    monkeypatch.setattr(logistic, "L2_GRID", grid)
    train, test = features(300, 0), features(300, 1)
    score, l2 = probe_logistic(train, test, num_classes=CLASSES, seed=0, metric="top-1", device=CPU)
    shuffled = Features(features=test.features, labels=test.labels.roll(1))
    other, same_l2 = probe_logistic(train, shuffled, num_classes=CLASSES, seed=0, metric="top-1", device=CPU)
    assert l2 == same_l2 and l2 in grid
    inside, outside = held_out(train.labels.numpy(), 0)
    by_hand = []
    for strength in grid:
        theirs = LogisticRegression(C=1 / (strength * len(inside)), max_iter=5000)
        theirs.fit(train.features[inside].numpy(), train.labels[inside].numpy())
        by_hand.append(theirs.score(train.features[outside].numpy(), train.labels[outside].numpy()))
    theirs = LogisticRegression(C=1 / (l2 * len(inside)), max_iter=5000)
    theirs.fit(train.features[inside].numpy(), train.labels[inside].numpy())
    chosen = theirs.score(train.features[outside].numpy(), train.labels[outside].numpy())
    assert chosen >= max(by_hand) - 0.01
    assert score.top1 > 60 > 30 > other.top1


def test_the_grid_is_simclrs() -> None:
    np.testing.assert_allclose(L2_GRID, np.logspace(-6, 5, 45))


def test_a_fifth_of_each_class_is_held_out_but_never_all_of_one() -> None:
    labels = np.repeat(np.arange(3), [10, 1, 3])
    inside, outside = held_out(labels, 0)
    assert sorted([*inside.tolist(), *outside.tolist()]) == list(range(14))
    assert np.bincount(labels[outside], minlength=3).tolist() == [2, 0, 1]
    assert not torch.equal(outside, held_out(labels, 1)[1])
