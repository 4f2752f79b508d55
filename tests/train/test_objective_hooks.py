"""The places where an objective of anyone's own takes part in a training beside its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from genrep.encoders import build_encoder
from genrep.errors import TrainingError
from genrep.train import TrainConfig, train
from genrep.train.objectives import OBJECTIVES, Setup
from genrep.train.objectives.base import Objective, Output, unit

MakeDataset = Callable[..., Path]


class Hooked(Objective):
    """Pulls pairs together; drops the gradients of the first convolution; saves a network of zeros."""

    name = "hooked"
    num_views = 2
    setups: ClassVar[list[Setup]] = []
    draws: ClassVar[list[float]] = []

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setups.append(setup)
        self.follower = deepcopy(setup.encoder).requires_grad_(False)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        self.draws.append(float(torch.rand(())))
        z = unit(encoder(images)).unflatten(0, (2, -1))
        return Output((z[0] - z[1]).square().sum(dim=1).mean(), {"told": z.new_tensor(7.0)}, z.detach())

    def after_backward(self, encoder: nn.Module, step: int) -> None:
        assert encoder.conv1.weight.grad.abs().max() > 0
        encoder.conv1.weight.grad = None

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        with torch.no_grad():
            for mine, theirs in zip(self.follower.parameters(), encoder.parameters()):
                mine.copy_(0 * theirs)

    def evaluated(self, encoder: nn.Module) -> nn.Module:
        return self.follower

    def collapsed(self, line: Mapping[str, float]) -> str | None:
        return "the teacher says one thing" if line["told"] == 7 and line["step"] > 2 else None


@pytest.fixture
def settings(dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(OBJECTIVES, "hooked", ("tests_of_hooks.of_a_lab", "Hooked"))
    monkeypatch.setitem(__import__("sys").modules, "tests_of_hooks.of_a_lab", __import__(__name__, fromlist=["Hooked"]))
    Hooked.setups.clear()
    Hooked.draws.clear()
    options = {"objective": "hooked", "batch_size": 8, "steps": 4, "device": "cpu", "precision": "fp32", "log_every": 1}
    return {"data": dataset(), "out": tmp_path / "run", **options}


@pytest.mark.slow
def test_gradients_are_changed_and_the_network_named_is_saved(settings: dict[str, Any]) -> None:
    encoder = train(TrainConfig(**settings)).encoder
    setup = Hooked.setups[0]
    assert (setup.total_steps, setup.steps_per_epoch, setup.local_views) == (4, 5, 0) and setup.size == 16
    state = load_file(encoder)
    assert {name for name, value in state.items() if value.abs().max() > 0} <= {
        name for name in state if "running" in name or "num_batches" in name
    }
    checkpoint = torch.load(settings["out"] / "checkpoint.pt", weights_only=True)
    kept = checkpoint["trainer"]["model"]["encoder.conv1.weight"]
    assert torch.equal(kept, build_encoder("resnet18", "imagenet", 0).conv1.weight)  # as it was drawn


@pytest.mark.slow
def test_what_networks_draw_follows_seed_and_step(settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    train(TrainConfig(**settings))
    first = list(Hooked.draws)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    train(TrainConfig(**{**settings, "out": tmp_path / "again"}))
    assert Hooked.draws[4:] == first and len(set(first)) == 4
    assert torch.equal(torch.get_rng_state(), before)
    train(TrainConfig(**{**settings, "out": tmp_path / "other", "seed": 5}))
    assert set(Hooked.draws[8:]).isdisjoint(first)


def test_a_collapse_of_its_own_kind_ends_the_run(settings: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"run: the teacher says one thing at step 4, and the like for 2 steps"):
        train(TrainConfig(**settings, collapse_steps=2, collapse_std=1e-9))
