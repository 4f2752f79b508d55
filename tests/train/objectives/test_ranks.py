"""Two processes with half a batch each are one process with the whole batch: losses, gradients, queues, targets."""

from __future__ import annotations

from typing import Any

import pytest
import rank
import torch
from forked import call

from genrep.train.objectives import OBJECTIVES, weighs_pairs

WEIGHED = [f"{name} weighted" for name in OBJECTIVES if weighs_pairs(name)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By "world-rank"."""
    folder = tmp_path_factory.mktemp("ranks")
    runs = [call(rank.main, number, world, folder) for number, world in [(0, 1), (0, 2), (1, 2)]]
    for run in runs:
        run.join(100)
        assert run.exitcode == 0
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OBJECTIVES, *rank.VARIANTS, *WEIGHED])
@pytest.mark.parametrize("part", ["losses", "gradients", "state"])
def test_two_ranks_equal_one(results: dict[str, Any], name: str, part: str) -> None:
    whole = results["1-0"][name][part]
    for one in ("2-0", "2-1"):
        found = results[one][name][part]
        if part == "losses":
            torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
            continue
        assert found.keys() == whole.keys() and len(whole) > 2
        for key, value in whole.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.slow
def test_half_a_batch_without_the_other_rank_is_something_else(results: dict[str, Any]) -> None:
    whole, half = (results["1-0"][name]["losses"] for name in ("simclr", "half alone"))
    assert float((whole - half).abs().min()) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHED)
def test_weights_change_a_loss(results: dict[str, Any], name: str) -> None:
    weighted, plain = (results["1-0"][one]["losses"] for one in (name, name.removesuffix(" weighted")))
    assert float((weighted - plain).abs().max()) > 1e-3


@pytest.mark.slow
def test_queues_and_targets_moved(results: dict[str, Any]) -> None:
    """Else their equality above would say nothing."""
    state = results["2-0"]
    assert int(state["nnclr"]["state"]["objective.queue.position"]) == 2
    assert int(state["negative-feature-transform"]["state"]["objective.queue.position"]) == 2
    byol = state["byol"]["state"]
    assert not torch.equal(byol["objective.target.networks.0.1.weight"], byol["encoder.1.weight"])
    for name in ("dino", "ibot"):
        assert state[name]["state"]["objective.centre.mean"].abs().min() > 0
    assert state["ibot"]["state"]["objective.patch_centre.mean"].abs().min() > 0
