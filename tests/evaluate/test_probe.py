"""The linear classifier: PyTorch's own SGD, scikit-learn's answer, a rate that follows the features' scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genrep.evaluate.probe import Heads, Split, cosine, default_lr, fit_linear

DIM, CLASSES = 12, 4


def clusters(count: int, seed: int, spread: float = 1.0) -> Split:
    """Gaussian clusters around four fixed centres, which overlap a little."""
    centres = torch.from_numpy(np.random.RandomState(99).randn(CLASSES, DIM)).float() * 1.5
    stream = np.random.RandomState(seed)
    labels = torch.from_numpy(stream.randint(0, CLASSES, count))
    noise = torch.from_numpy(stream.randn(count, DIM)).float()
    return Split(features=centres[labels] + spread * noise, labels=labels)


def test_a_step_is_that_of_pytorchs_sgd() -> None:
    lrs = (0.1, 1.0)
    heads = Heads(DIM, CLASSES, lrs, 0, torch.device("cpu"))
    modules = [nn.Linear(DIM, CLASSES) for _ in lrs]
    for module in modules:
        module.load_state_dict({"weight": heads.weight[0].clone(), "bias": heads.bias[0].clone()})
    optimisers = [torch.optim.SGD(m.parameters(), lr=lr, momentum=0.9) for m, lr in zip(modules, lrs)]
    for seed in range(3):
        batch = clusters(16, seed)
        heads.step(batch.features, batch.labels, 1.0)
        for module, optimiser in zip(modules, optimisers):
            optimiser.zero_grad()
            F.cross_entropy(module(batch.features), batch.labels).backward()
            optimiser.step()
    for g, module in enumerate(modules):
        torch.testing.assert_close(heads.weight[g], module.weight)
        torch.testing.assert_close(heads.bias[g], module.bias)


def test_agrees_with_scikit_learn() -> None:
    from sklearn import linear_model

    train, test = clusters(2000, 0), clusters(2000, 1)
    (curve,) = fit_linear(
        train, test, num_classes=CLASSES, lrs=(default_lr(train.features),), epochs=20, batch_size=64, seed=0
    )
    reference = linear_model.LogisticRegression(C=1e4, max_iter=2000)
    reference.fit(train.features.numpy(), train.labels.numpy())
    wanted = 100 * reference.score(test.features.numpy(), test.labels.numpy())
    assert 80 < wanted < 99.9
    assert curve.last == pytest.approx(wanted, abs=0.5)
    assert len(curve.top1) == 20 and curve.best >= curve.last


def test_heads_of_a_grid_do_not_touch_each_other() -> None:
    train, test = clusters(200, 0), clusters(100, 1)
    options = {"num_classes": CLASSES, "epochs": 3, "batch_size": 32, "seed": 5}
    alone = fit_linear(train, test, lrs=(0.3,), **options)[0]
    beside = fit_linear(train, test, lrs=(0.01, 0.3, 30.0), **options)
    assert [curve.lr for curve in beside] == [0.01, 0.3, 30.0]
    assert beside[1].top1 == alone.top1


def test_the_seed_fixes_the_curve_and_leaves_the_global_stream_alone() -> None:
    train, test = clusters(200, 0, spread=4.0), clusters(500, 1, spread=4.0)
    before = torch.random.get_rng_state()
    curves = [
        fit_linear(train, test, num_classes=CLASSES, lrs=(0.1,), epochs=2, batch_size=32, seed=seed)[0].top1
        for seed in (0, 0, 1)
    ]
    assert curves[0] == curves[1] != curves[2]
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_default_rate_makes_the_scale_of_features_irrelevant() -> None:
    train, test = clusters(500, 0), clusters(500, 1)
    results = []
    for scale in (1.0, 1024.0):
        a, b = (Split(features=s.features * scale, labels=s.labels) for s in (train, test))
        heads = Heads(DIM, CLASSES, (default_lr(a.features),), 0, torch.device("cpu"))
        heads.weight.zero_()
        for _ in range(50):
            heads.step(a.features, a.labels, 1.0)
        results.append(heads.top1(b)[0])
    assert default_lr(train.features * 2) == pytest.approx(default_lr(train.features) / 4)
    assert results[0] == pytest.approx(results[1], abs=0.21)  # the bias alone has a scale of its own


def test_the_schedule_is_pinned() -> None:
    assert [cosine(epoch, 60) for epoch in (1, 30, 60)] == pytest.approx([0.9993202, 0.504, 0.008], abs=1e-7)
