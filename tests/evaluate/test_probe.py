"""The linear classifiers: PyTorch's own SGD, scikit-learn's answer, a rate that follows the features' scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genrep.evaluate.images import Feed
from genrep.evaluate.linear.config import PRESETS
from genrep.evaluate.linear.heads import Heads, default_lr
from genrep.evaluate.linear.scores import Features
from genrep.evaluate.linear.training import HeadCurve, HeadsTrainer, course_of, fixed_feed
from genrep.runs.engine import Run
from genrep.runs.processes import Processes

DIM, CLASSES = 12, 4
CPU = torch.device("cpu")


def clusters(count: int, seed: int, spread: float = 1.0) -> Features:
    """Gaussian clusters around four fixed centres, which overlap a little."""
    centres = torch.from_numpy(np.random.RandomState(99).randn(CLASSES, DIM)).float() * 1.5
    stream = np.random.RandomState(seed)
    labels = torch.from_numpy(stream.randint(0, CLASSES, count))
    noise = torch.from_numpy(stream.randn(count, DIM)).float()
    return Features(features=centres[labels] + spread * noise, labels=labels)


def fit_heads(heads: Heads, feed: Feed, test: Features, *, lrs: tuple[float, ...], epochs: int) -> list[HeadCurve]:
    trainer = HeadsTrainer(heads, feed, test, lrs=lrs, epochs=epochs)
    Run(trainer, course_of(trainer, Path("nowhere"), None), Processes(device=CPU)).go_on()
    assert not Path("nowhere").exists()
    return trainer.curves


def fit_linear(
    train: Features,
    test: Features,
    *,
    num_classes: int,
    lrs: tuple[float, ...],
    epochs: int,
    batch_size: int,
    seed: int,
) -> list[HeadCurve]:
    heads = Heads(train.features.shape[1], num_classes, lrs, seed, CPU, PRESETS["frozen"])
    return fit_heads(heads, fixed_feed(train, batch_size, seed, CPU), test, lrs=lrs, epochs=epochs)


@pytest.mark.parametrize("preset", ["frozen", "vissl"])
def test_a_step_is_that_of_pytorchs_sgd(preset: str) -> None:
    lrs, law = (0.1, 1.0), PRESETS[preset]
    heads = Heads(DIM, CLASSES, lrs, 0, CPU, law)
    modules = []
    for _ in lrs:
        linear = nn.Linear(DIM, CLASSES)
        linear.load_state_dict({name: heads.parameters[name][0].clone() for name in ("weight", "bias")})
        modules.append(nn.Sequential(nn.BatchNorm1d(DIM), linear) if law.batch_norm else nn.Sequential(linear))
    optimisers = [
        torch.optim.SGD(
            [
                {"params": list(module[-1].parameters()), "weight_decay": law.weight_decay},
                {"params": [p for layer in module[:-1] for p in layer.parameters()]},
            ],
            lr=lr,
            momentum=0.9,
            nesterov=law.nesterov,
        )
        for module, lr in zip(modules, lrs)
    ]
    for seed in range(4):
        batch = clusters(16, seed)
        heads.step(batch.features, batch.labels, 1.0)
        for module, optimiser in zip(modules, optimisers):
            optimiser.zero_grad()
            F.cross_entropy(module(batch.features), batch.labels).backward()
            optimiser.step()
    found = heads.logits(clusters(8, 9).features)
    for g, module in enumerate(modules):
        torch.testing.assert_close(heads.parameters["weight"][g], module[-1].weight)
        torch.testing.assert_close(heads.parameters["bias"][g], module[-1].bias)
        torch.testing.assert_close(found[:, g], module.eval()(clusters(8, 9).features))


@pytest.mark.parametrize("spread", [2.0, 3.0])
def test_sixty_epochs_reach_scikit_learns_optimum_where_there_is_one(spread: float) -> None:
    """The preset's own rate, batch and epochs, on clusters that overlap, so that no weight grows for ever."""
    from sklearn import linear_model

    law, train, test = PRESETS["frozen"], clusters(5000, 0, spread), clusters(20000, 1, spread)
    lrs = (default_lr(train.features),)
    heads = Heads(DIM, CLASSES, lrs, 0, CPU, law)
    (curve,) = fit_heads(heads, fixed_feed(train, law.batch_size, 0, CPU), test, lrs=lrs, epochs=law.epochs)
    reference = linear_model.LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8)
    reference.fit(train.features.double().numpy(), train.labels.numpy())
    wanted = 100 * reference.score(test.features.double().numpy(), test.labels.numpy())
    assert 70 < wanted < 95
    assert curve.last.top1 == pytest.approx(wanted, abs=0.1)
    best = F.cross_entropy(torch.from_numpy(reference.decision_function(train.features.double().numpy())), train.labels)
    assert best < F.cross_entropy(heads.logits(train.features)[:, 0], train.labels) < best * (1 + 1e-3)
    assert len(curve.scores) == 60 and curve.best("top-1") >= curve.last.top1


def test_heads_of_a_grid_do_not_touch_each_other() -> None:
    train, test = clusters(200, 0), clusters(100, 1)
    options = {"num_classes": CLASSES, "epochs": 3, "batch_size": 32, "seed": 5}
    alone = fit_linear(train, test, lrs=(0.3,), **options)[0]
    beside = fit_linear(train, test, lrs=(0.01, 0.3, 30.0), **options)
    assert [curve.lr for curve in beside] == [0.01, 0.3, 30.0]
    assert beside[1].scores == alone.scores


def test_the_seed_fixes_the_curve_and_leaves_the_global_stream_alone() -> None:
    train, test = clusters(200, 0, spread=4.0), clusters(500, 1, spread=4.0)
    before = torch.random.get_rng_state()
    curves = [
        fit_linear(train, test, num_classes=CLASSES, lrs=(0.1,), epochs=2, batch_size=32, seed=seed)[0].scores
        for seed in (0, 0, 1)
    ]
    assert curves[0] == curves[1] != curves[2]
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_default_rate_makes_the_scale_of_features_irrelevant() -> None:
    train, test = clusters(500, 0), clusters(500, 1)
    results = []
    for scale in (1.0, 1024.0):
        a, b = (Features(features=s.features * scale, labels=s.labels) for s in (train, test))
        heads = Heads(DIM, CLASSES, (default_lr(a.features),), 0, CPU, PRESETS["frozen"])
        heads.parameters["weight"].zero_()
        for _ in range(50):
            heads.step(a.features, a.labels, 1.0)
        right = heads.logits(b.features)[:, 0].argmax(dim=1) == b.labels
        results.append(100 * float(right.float().mean()))
    assert default_lr(train.features * 2) == pytest.approx(default_lr(train.features) / 4)
    assert results[0] == pytest.approx(results[1], abs=0.21)  # the bias alone has a scale of its own


def test_schedules_are_the_papers() -> None:
    rates = [0.3 * PRESETS["genrep"].scale(epoch, 60) for epoch in range(1, 61)]
    floor = 0.3 * 0.2**3  # as GenRep's util.py computes it
    wanted = [floor + (0.3 - floor) * (1 + np.cos(np.pi * epoch / 60)) / 2 for epoch in range(1, 61)]
    np.testing.assert_allclose(rates, wanted)
    assert PRESETS["hl"].scale(60, 60) == pytest.approx(0.1)
    model = nn.Linear(1, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [8, 16, 24], gamma=0.1)
    for epoch in range(1, 29):
        assert 0.01 * PRESETS["vissl"].scale(epoch, 28) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()


def test_hl_begins_with_small_normal_weights() -> None:
    heads = Heads(2048, 100, (30.0,), 0, CPU, PRESETS["hl"])
    assert float(heads.parameters["weight"].std()) == pytest.approx(0.01, rel=0.01)
    assert not heads.parameters["bias"].any()
