"""Runs of vision transformers: resumed to the bit with paths dropped, readable by timm, and refused before they begin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from genrep.encoders import load_encoder
from genrep.errors import GenRepError
from genrep.train import TrainConfig, train
from genrep.train.engine import run as run_module
from genrep.train.engine.training_plan import resolve

MakeDataset = Callable[..., Path]
ARCH = "vit_tiny_patch16_224:width=24,depth=3,heads=2"


def config(data: Path, out: Path, **options: Any) -> TrainConfig:
    given = {
        "arch": ARCH,
        "patch_size": 4,
        "drop_path": 0.4,
        "global_pool": "cls+avg",
        "optimizer": "adamw",
        "lr": 1e-3,
    }
    common = {"batch_size": 8, "epochs": 2, "device": "cpu", "precision": "fp32", "log_every": 2}
    return TrainConfig(**{"data": data, "out": out, **common, **given, **options})


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.mark.slow
def test_a_resumed_run_drops_the_same_paths(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config(dataset(), whole))
    original = run_module.EncoderTrainer.train_step

    def train_step(self: run_module.EncoderTrainer, *arguments: Any) -> Any:
        if self.step == 7:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module.EncoderTrainer, "train_step", train_step)
        train(config(dataset(), broken))
    train(config(dataset(), broken))
    ours, theirs = (load_file(folder / "encoder.safetensors") for folder in (broken, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    train(config(dataset(), tmp_path / "kept", drop_path=0.0))  # the paths do matter
    other = load_file(tmp_path / "kept/encoder.safetensors")
    assert not torch.equal(other["blocks.2.mlp.fc1.weight"], theirs["blocks.2.mlp.fc1.weight"])

    loaded = load_encoder(whole)
    assert loaded.facts.stem == "patch" and loaded.facts.size == 16
    assert loaded.facts.model == {"patch_size": 4, "global_pool": "cls+avg"} and loaded.module.width == 48
    with safe_open(whole / "encoder.safetensors", "pt") as file:
        built = json.loads(file.metadata()["timm"])
    network = timm.create_model(built["architecture"], **built["model_args"]).eval()
    network.load_state_dict(theirs, strict=True)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded.module(images)[:, :24], network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch_size": 5}, "patch_size 5: does not divide images of 16 pixels"),
        ({"arch": "vit_none_at_all"}, "timm .* has no such model"),
        (
            {"local_crops": 1, "local_size": 6},
            "local_size 6: wanted a multiple of the patches' 4 pixels",
        ),
        ({"stem": "cifar"}, "stem cifar: arch .* is a vision transformer"),
        ({"arch": "resnet18:width=8"}, "patch_size 4: arch resnet18:width=8 is a ResNet, which has none"),
    ],
)
def test_what_cannot_be_built_leaves_no_folder(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(f"{resolve.__module__}.takes_local_crops", lambda objective: True)
    with pytest.raises(GenRepError, match=said):
        train(config(dataset(), tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()
