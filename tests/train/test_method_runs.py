"""Whole runs of the objectives of vision transformers: a resume to the bit, and a collapse that is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from genrep.errors import TrainingError
from genrep.train import TrainConfig, train
from genrep.train.engine import run as run_module

MakeDataset = Callable[..., Path]
HEADS = {"projector_width": 16, "projector_dim": 8}
PROTOTYPES = {"prototypes": 12, "head_width": 16, "bottleneck": 6, "freeze_prototypes_epochs": 0.5, "local_crops": 1}
LIST: dict[str, dict[str, Any]] = {
    "multi-positive": {**HEADS, "positive": "all", "pixel_views": "stablerep"},
    "mocov3": {**HEADS, "pixel_views": "mocov3"},
    "dino": {**PROTOTYPES, "pixel_views": "dino", "teacher_temperature_start": 0.02, "teacher_warmup_epochs": 2},
    "ibot": {**PROTOTYPES, "teacher_warmup_epochs": 1, "mask_probability": 0.8},
    "synclr": {
        **{name: value for name, value in (PROTOTYPES | HEADS).items() if name != "freeze_prototypes_epochs"},
        **{"pixel_views": "synclr", "positive": "all", "dino_weight": 0.5},
    },
    "lejepa": {**HEADS, "slices": 8, "local_crops": 1},
}


def config(data: Path, out: Path, objective: str, **options: Any) -> TrainConfig:
    common = {"batch_size": 8, "epochs": 2, "device": "cpu", "precision": "fp32", "log_every": 2}
    network = {"arch": "vit_tiny_patch16_224:width=16,depth=1,heads=2", "patch_size": 4, "crop": 16}
    optimiser = {"optimizer": "adamw", "lr": 1e-3, "clip_gradients": 1.0}
    given = {**common, **network, **optimiser, **LIST[objective], **options}
    return TrainConfig(data=data, out=out, objective=objective, **given)


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", LIST)
def test_a_killed_run_ends_with_the_bytes_of_a_whole_one(
    name: str, dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads, teachers, centres, masks and slices go on where they were."""
    data, whole, broken = dataset(positives=2), tmp_path / "whole", tmp_path / "broken"
    train(config(data, whole, name))
    original = run_module.EncoderTrainer.train_step

    def train_step(self: run_module.EncoderTrainer, *arguments: Any) -> Any:
        if self.step == 7:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module.EncoderTrainer, "train_step", train_step)
        train(config(data, broken, name))
    train(config(data, broken, name))
    ours, theirs = (load_file(folder / "encoder.safetensors") for folder in (broken, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (broken, whole)]
    assert last[0].keys() == last[1].keys()
    assert all(last[0][key] == last[1][key] for key in last[1] if key not in ("images_per_s", "data_wait"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LIST)
def test_a_collapse_ends_a_run(
    name: str, dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network gives every image the same features, as a collapsed one does."""
    original = run_module.EncoderTrainer.__init__

    def collapsed(self: run_module.EncoderTrainer, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        teachers = getattr(getattr(self.objective, "target", None), "networks", [])
        for network in (self.encoder, *list(teachers)[:1]):
            network.get_submodule("norm").weight.data.zero_()

    monkeypatch.setattr(run_module.EncoderTrainer, "__init__", collapsed)
    given = config(dataset(positives=2), tmp_path / "run", name, log_every=1, collapse_steps=3, lr=1e-9, epochs=4)
    with pytest.raises(TrainingError, match=r"have collapsed.* for 3 steps") as caught:
        train(given)
    assert "\n" not in str(caught.value) and not (tmp_path / "run/encoder.safetensors").exists()
