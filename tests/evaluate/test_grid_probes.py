"""Linear probes whose head is one of a grid: their arithmetic, and that nothing of the test images chooses among them."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genrep.errors import Terminated, TrainingError, WeightsError
from genrep.evaluate import LinearConfig, evaluate_linear
from genrep.evaluate.linear import run
from genrep.evaluate.linear.choice import best_head
from genrep.evaluate.linear.heads import GroupedHeads, Heads
from genrep.evaluate.linear.presets import PRESETS
from genrep.evaluate.linear.run import LinearProbe
from genrep.evaluate.linear.scores import Score
from genrep.evaluate.linear.training import HeadCurve, HeadsTrainer
from genrep.images.sets import load_pair

CPU = torch.device("cpu")
DIM, CLASSES = 6, 3


def config(images: Path, out: Path, **options: Any) -> LinearConfig:
    """A vision transformer as it was drawn, on 16 pixels."""
    given: dict[str, Any] = {"preset": "dinov3", "dataset": str(images), "out": out, "device": "cpu"}
    given |= {"random_init": True, "arch": "vit_tiny_patch16_224:width=16,depth=4,heads=2", "patch_size": 8}
    given |= {"size": 18, "crop": 16, "epochs": 2, "epoch_length": 6, "batch_size": 16, "crops": False}
    return LinearConfig(**{**given, **options})


def batch(seed: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    stream = np.random.RandomState(seed)
    return torch.from_numpy(stream.randn(count, DIM)).float() * 3 + 1, torch.from_numpy(
        stream.randint(0, CLASSES, count)
    )


def test_mae_steps_are_lars_behind_batch_norm_without_gain_and_shift() -> None:
    """LARS written from its equation: the gradient times .001 |w| / |g|, for weights alone; then momentum."""
    for g, lr in enumerate((0.5, 4.0)):
        norm, linear = nn.BatchNorm1d(DIM, affine=False, eps=1e-6), nn.Linear(DIM, CLASSES)
        fresh = Heads(DIM, CLASSES, (0.5, 4.0), 0, CPU, PRESETS["mae"])
        assert fresh.parameters.keys() == {"weight", "bias"}
        linear.load_state_dict({name: fresh.parameters[name][g].clone() for name in ("weight", "bias")})
        velocity = [torch.zeros_like(p) for p in linear.parameters()]
        for seed in range(4):
            features, labels = batch(seed)
            fresh.step(features, labels, 1.0)
            linear.zero_grad()
            F.cross_entropy(linear(norm(features)), labels).backward()
            for p, v in zip(linear.parameters(), velocity):
                assert p.grad is not None
                scale = 0.001 * p.data.norm() / p.grad.norm() if p.dim() > 1 else 1.0
                v.mul_(0.9).add_(p.grad * scale)
                p.data.sub_(lr * v)
        torch.testing.assert_close(fresh.parameters["weight"][g], linear.weight.data)
        torch.testing.assert_close(fresh.parameters["bias"][g], linear.bias.data)
        torch.testing.assert_close(fresh.logits(batch(9)[0])[:, g], linear(norm.eval()(batch(9)[0])).detach())


def test_heads_of_a_group_are_those_of_its_columns_alone() -> None:
    law, columns = PRESETS["dinov2"], (slice(4, 6), slice(0, 6))
    grouped = GroupedHeads([(one, Heads(len(range(6)[one]), CLASSES, (0.1, 1.0), 0, CPU, law)) for one in columns])
    alone = [Heads(len(range(6)[one]), CLASSES, (0.1, 1.0), 0, CPU, law) for one in columns]
    for seed in range(3):
        features, labels = batch(seed)
        grouped.step(features, labels, 1.0)
        for one, heads in zip(columns, alone):
            heads.step(features[:, one], labels, 1.0)
    found = grouped.logits(batch(7)[0])
    assert found.shape == (8, 4, CLASSES)
    for index in range(4):
        wanted = alone[index // 2].logits(batch(7)[0][:, columns[index // 2]])[:, index % 2]
        assert torch.equal(found[:, index], wanted) and torch.equal(grouped.logits_of(index)(batch(7)[0])[:, 0], wanted)


def test_labels_of_test_images_choose_nothing(images: Path, tmp_path: Path) -> None:
    """Test images with shuffled labels give another accuracy, and the same head of the same grid."""
    train, test = load_pair(str(images), None, download=False)
    shuffled = replace(test, labels=np.roll(test.labels, 5))
    probe = LinearProbe(config(images, tmp_path, preset="dinov2", lr_grid=(1e-4, 0.3)))
    encoder = probe._open(0)
    right, wrong = (probe.on(encoder, train, part).figures() for part in (test, shuffled))
    assert right["value"] != wrong["value"]
    assert (right["chosen"], right["grid"]) == (wrong["chosen"], wrong["grid"])
    assert len(right["grid"]) == 2 * 2 * 2
    assert right["chosen"]["held_out"] == max(head["held_out"] for head in right["grid"])


@pytest.mark.parametrize("crops", [False, True])
def test_test_images_are_read_when_the_choice_is_made(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crops: bool
) -> None:
    read: list[str] = []
    original, choose = run.frozen_features, run.best_head
    monkeypatch.setattr(
        run, "frozen_features", lambda e, data, *a, **k: (read.append(data.split), original(e, data, *a, **k))[1]
    )
    monkeypatch.setattr(run, "best_head", lambda *a: (read.append("choice"), choose(*a))[1])
    entry = evaluate_linear(config(images, tmp_path, crops=crops, epochs=1, epoch_length=2)).entry
    assert read[-2:] == ["choice", "its test/ folder"] and read.count("its test/ folder") == 1
    said = entry["protocol"]
    assert said["chosen_on"].startswith("1 in 10 training images of each class") and "test images" in said["chosen_on"]
    crop = "RandomResizedCrop(16, 0.08-1, bicubic), horizontal flip"
    assert said["augmentation"] == (crop if crops else "none")
    assert said["features"].startswith("class token, mean of patches, evaluation mode")


def test_held_out_images_train_no_head(images: Path, tmp_path: Path) -> None:
    train, test = load_pair(str(images), None, download=False)
    probe = LinearProbe(config(images, tmp_path))
    bound = probe.on(probe._open(0), train, test, seed=3)
    inside, outside = (set(rows.tolist()) for rows in (bound.inside, bound.outside))
    assert not inside & outside and inside | outside == set(range(36)) and len(outside) == 3
    feed, check = bound._parts()
    assert feed.images == 33 and len(check) == 3


def test_results_do_not_depend_on_threads_and_on_the_batch_of_features(images: Path, tmp_path: Path) -> None:
    first, second = (
        evaluate_linear(config(images, tmp_path / str(n), crops=True, epochs=1, feature_batch=n, workers=n)).entry
        for n in (2, 16)
    )
    assert (first["value"], first["grid"]) == (second["value"], second["grid"])


def test_an_interrupted_grid_goes_on(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_linear(config(images, tmp_path / "whole")).entry
    steps, original = [], HeadsTrainer.train_step

    def step(trainer: HeadsTrainer) -> Any:
        steps.append(trainer.step)
        if steps == list(range(9)):
            signal.raise_signal(signal.SIGTERM)
        return original(trainer)

    monkeypatch.setattr(HeadsTrainer, "train_step", step)
    with pytest.raises(Terminated):
        evaluate_linear(config(images, tmp_path / "part"))
    rest = evaluate_linear(config(images, tmp_path / "part")).entry
    assert steps == list(range(12))
    assert {name: rest[name] for name in ("value", "grid", "lr")} == {
        name: whole[name] for name in ("value", "grid", "lr")
    }
    assert not list((tmp_path / "part").glob("checkpoints/*"))


def test_a_head_that_diverges_is_not_the_result_and_no_end(images: Path, tmp_path: Path) -> None:
    entry = evaluate_linear(config(images, tmp_path, lr=0.1, lr_grid=(1e38,))).entry
    assert entry["lr"] == 0.1 and entry["grid"][1]["held_out"] == 0.0
    bad = HeadCurve(lr=1.0, scores=(Score(top1=0.0, top5=None, mean_per_class=0.0),))
    with pytest.raises(TrainingError, match="none of 2 heads has a held-out image right"):
        best_head([bad, bad], "top-1")


def test_encoders_without_a_class_token_give_pooled_features_and_say_so(
    encoder: Path, images: Path, tmp_path: Path
) -> None:
    changes = {"random_init": False, "arch": None, "patch_size": None, "encoder": encoder}
    entry = evaluate_linear(config(images, tmp_path, preset="dinov2", epochs=1, **changes)).entry
    assert entry["protocol"]["features"].startswith("pooled (the encoder has no class token), evaluation mode")
    assert len(entry["grid"]) == 13 and entry["chosen"]["features"] == "pooled"


def test_too_shallow_a_transformer_is_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="class tokens of the last 4 blocks: this transformer has 2"):
        evaluate_linear(config(images, tmp_path, preset="dinov2", arch="vit_tiny_patch16_224:width=16,depth=2,heads=2"))


def test_the_numbers_are_the_papers(images: Path, tmp_path: Path) -> None:
    train, test = load_pair(str(images), None, download=False)
    said = {}
    for name in ("dinov2", "dinov3", "mae", "stablerep", "synclr"):
        plain = {"size": None, "crop": None, "epochs": None, "epoch_length": None, "batch_size": None, "crops": True}
        probe = LinearProbe(config(images, tmp_path, preset=name, **plain))
        encoder = probe._open(0)
        said[name] = probe.on(encoder, train, test).protocol()
    assert PRESETS["dinov3"].batch_size == 1024 and PRESETS["mae"].lr == pytest.approx(6.4)
    assert {name: (one["epochs"], one.get("epoch_length")) for name, one in said.items()} == {
        "dinov2": (10, 1250),
        "dinov3": (10, 1250),
        "mae": (90, None),
        "stablerep": (90, None),
        "synclr": (90, None),
    }
    assert said["dinov3"]["batch_size"] == 33 and said["mae"]["batch_size"] == 36  # all there are to train on
    assert said["dinov3"]["lr"].startswith("chosen among 1.28906e-06, ") and said["dinov3"]["lr"].count(",") == 12
    assert said["mae"]["lr"] == pytest.approx(0.1 * 36 / 256)
    assert said["mae"]["optimiser"] == "LARS, momentum 0.9, no weight decay"
    assert said["mae"]["schedule"] == "linear over 0.111 of the epochs, then cosine per update to 0"
    assert (
        "batch norm without gain and shift" in said["synclr"]["features"]
        and "not standard" in said["stablerep"]["features"]
    )
    assert said["dinov2"]["test_transform"] == "Resize(256, bicubic) -> CenterCrop(224)"
    assert said["stablerep"]["test_transform"] == "Resize(256, bilinear) -> CenterCrop(224)"
