"""kNN as a live signal: measured when it is due, the best encoder kept, the training itself untouched."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from genrep.cli import invoke
from genrep.encoders import load_encoder
from genrep.errors import DataError, Terminated
from genrep.features import extract_features
from genrep.generate.cli import cli as generate
from genrep.images.sets import load_images
from genrep.knn import knn_top1
from genrep.train import TrainConfig, train
from genrep.train.cli import command
from genrep.train.engine.trainer import EncoderTrainer

MakeDataset = Callable[..., Path]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes: noise that is bright, and noise that is dark."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.RandomState(0)
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(("bright", "dark")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = random.randint(0, 120, size=(16, 16, 3)) + (120 if label == 0 else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
    return root


def config(data: Path, out: Path, **options: object) -> TrainConfig:
    settings = {"batch_size": 8, "epochs": 4, "lr": 0.5, "device": "cpu", "precision": "fp32", "data": data, "out": out}
    return TrainConfig(**{**settings, **options})  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_is_measured_when_due_and_changes_nothing(dataset: MakeDataset, photos: Path, tmp_path: Path) -> None:
    with_knn, without = tmp_path / "with", tmp_path / "without"
    train(config(dataset(), with_knn, knn_every=2, knn_data=str(photos)))
    train(config(dataset(), without))
    lines = [json.loads(line) for line in (with_knn / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "knn_top1" in line] == [10, 20]
    ours, theirs = load_file(with_knn / "encoder.safetensors"), load_file(without / "encoder.safetensors")
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_stop_in_an_epochs_last_step_loses_nothing_of_the_epoch(
    dataset: MakeDataset, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"knn_every": 1, "knn_data": str(photos), "log_every": 3}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config(dataset(), whole, **options))
    step = EncoderTrainer.train_step

    def stopped(self: EncoderTrainer, *batch: Any) -> Any:
        output = step(self, *batch)
        if self.step == 5:  # of 5 in the first epoch
            signal.raise_signal(signal.SIGTERM)
        return output

    with monkeypatch.context() as patch, pytest.raises(Terminated):
        patch.setattr(EncoderTrainer, "train_step", stopped)
        train(config(dataset(), cut, **options))
    train(config(dataset(), cut, **options))
    assert told(cut) == told(whole)
    ours, theirs = (load_file(out / "encoder-best.safetensors") for out in (cut, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def told(out: Path) -> list[tuple[object, ...]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["epoch"], line.get("loss"), line.get("knn_top1")) for line in found]


@pytest.mark.slow
def test_the_best_encoder_has_the_best_number(dataset: MakeDataset, photos: Path, tmp_path: Path) -> None:
    train(config(dataset(), tmp_path, knn_every=1, knn_data=str(photos)))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    best = max(line["knn_top1"] for line in lines if "knn_top1" in line)
    encoder = load_encoder(tmp_path / "encoder-best.safetensors")
    features = []
    for split in ("train", "test"):
        images = load_images(str(photos), None, split)
        features.append(extract_features(encoder.module, encoder.facts, images.images, torch.device("cpu")))
        features.append(torch.from_numpy(images.labels))
    assert knn_top1(*features, num_classes=2, k=20, temperature=0.07) == pytest.approx(best)


def test_images_without_labels_are_one_line(dataset: MakeDataset, photos: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    for split in ("train", "test"):
        (bare / split).mkdir(parents=True)
        for path in (photos / split / "dark").iterdir():
            (bare / split / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"^knn_data .*: wanted labelled images of at least two classes"):
        train(config(dataset(), tmp_path / "out", knn_every=1, knn_data=str(bare)))


def test_images_that_are_not_there_are_told_with_a_command_that_fetches_them(
    dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(dataset()), "--out", str(tmp_path / "out"), "--device", "cpu", "--batch-size", "8"]
    arguments += ["--knn-every", "1", "--knn-data", "fashion_mnist"]
    assert invoke(command, arguments) == 1
    assert "--knn-data fashion_mnist: give the folder that holds it as --knn-root" in capsys.readouterr().err
    assert invoke(command, [*arguments, "--knn-root", str(tmp_path / "data")]) == 1
    line = capsys.readouterr().err
    found = re.search(
        r"not found, or incomplete, under .*; (genrep-generate .* --download) --out DIR fetches it\n$", line
    )
    assert found is not None and line.count("--download") == 1
    assert invoke(generate, [*found[1].split()[1:], "--out", str(tmp_path / "shards"), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["root"] == str(tmp_path / "data")
