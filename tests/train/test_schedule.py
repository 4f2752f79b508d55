"""Learning rates by steps, against the papers' numbers and plain formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest

from genrep.train.engine.optimiser import Schedule


def schedule(**options: Any) -> Schedule:
    defaults = {
        "kind": "cosine",
        "peak": 1.0,
        "floor": 0.0,
        "warmup_steps": 0,
        "total_steps": 100,
        "steps_per_epoch": 10,
    }
    return Schedule(**{**defaults, **options})


def test_genreps_rates_are_one_for_each_epoch() -> None:
    """papers: 20 epochs from .03 give .029816 in the first and 3e-5 in the last."""
    found = schedule(kind="cosine-by-epoch", peak=0.03, floor=1e-3, total_steps=20 * 5078, steps_per_epoch=5078)
    assert found.rate(0) == found.rate(5077) == pytest.approx(0.029816, abs=5e-7)
    assert found.rate(5078) < found.rate(5077)
    assert found.rate(20 * 5078 - 1) == pytest.approx(3e-5, rel=1e-6)


def test_the_cosine_moves_at_every_step_down_to_the_floor() -> None:
    """HL ends at a tenth."""
    found = schedule(peak=0.2, floor=0.1)
    wanted = [0.02 + 0.18 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert [found.rate(step) for step in range(100)] == pytest.approx(wanted)
    assert found.rate(100) == pytest.approx(0.02)


@pytest.mark.parametrize("kind", ["cosine", "cosine-by-epoch"])
def test_the_warm_up_is_linear_and_meets_the_cosine(kind: str) -> None:
    found = schedule(kind=kind, warmup_steps=20)
    rates = [found.rate(step) for step in range(20)]
    assert rates == pytest.approx([rates[0] * (step + 1) for step in range(20)])
    assert rates[-1] == pytest.approx(found.rate(20))


def test_an_incomplete_last_epoch_counts_as_one() -> None:
    found = schedule(kind="cosine-by-epoch", total_steps=25)
    assert [found.rate(step) for step in (0, 10, 20, 24)] == pytest.approx([0.75, 0.25, 0.0, 0.0])


@pytest.mark.parametrize(
    ("step", "wanted"),
    [(0, 0.01), (1, 0.02), (9, 0.1), (10, 0.1), (60, (0.1 + 0.0001) / 2), (110, 0.0001), (35, 0.08536998)],
)
def test_warm_up_then_cosine(step: int, wanted: float) -> None:
    found = schedule(peak=0.1, floor=1e-3, warmup_steps=10, total_steps=110)
    assert found.rate(step) == pytest.approx(wanted, rel=1e-6)
