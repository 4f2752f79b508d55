"""Fine-tuning on few labels: which images have one, what is learned, that it can be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.cli import Terminated, invoke
from genrep.errors import DataError, ResumeError, TrainingError
from genrep.evaluate import FinetuneConfig, evaluate_finetune
from genrep.evaluate.finetune.run import Finetuning, choose_labelled, read_subset
from genrep.evaluate.finetune.training import FinetuneTrainer
from genrep.images.sets import load_pair
from genrep.papers.cli import group
from genrep.runs.checkpoints import Checkpoints, write_state


def config(encoder: Path, images: Path, out: Path, **options: Any) -> FinetuneConfig:
    settings = {"labels": "6-per-class", "epochs": 2, "crop": 16, "batch_size": 6, "device": "cpu", **options}
    return FinetuneConfig(encoder=encoder, dataset=str(images), out=out, **settings)


@pytest.mark.parametrize(("labels", "count"), [("25%", 3), ("1%", 1), ("100%", 12), ("5-per-class", 5)])
def test_every_class_has_the_same_part_of_labels(images: Path, labels: str, count: int) -> None:
    train = load_pair(str(images), None)[0]
    rows = choose_labelled(train, labels, seed=0)
    assert np.bincount(train.labels[rows]).tolist() == [count] * 3
    assert len(set(rows.tolist())) == len(rows)
    assert (rows == choose_labelled(train, labels, seed=0)).all()
    if count < 12:
        assert (rows != choose_labelled(train, labels, seed=1)).any()


def test_a_list_of_files_says_which(images: Path, tmp_path: Path) -> None:
    rename = tmp_path / "data"
    for split in ("train", "test"):
        for path in (images / split).glob("*/*.png"):
            target = rename / split / path.parent.name / f"{path.parent.name}_{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    train = load_pair(str(rename), None)[0]
    listed = tmp_path / "list.txt"
    listed.write_text("dark_3.png\nlight/light_0.png\nmiddle_11.png\n")
    rows = read_subset(train, listed)
    assert train.paths is not None
    assert [Path(train.paths[i]).name for i in rows] == ["dark_3.png", "light_0.png", "middle_11.png"]
    for text, message in (
        ("dark_3.png\nn01440764_1.JPEG\n", r"1 of 2 files are not in data, e.g. n01440764_1.JPEG"),
        ("dark_3.png\ndark_3.png\n", "each once"),
        ("", "each once"),
        ("dark_3.png\n", "no image of 2 classes, e.g. light"),
    ):
        listed.write_text(text)
        with pytest.raises(DataError, match=message):
            read_subset(train, listed)
    with pytest.raises(DataError, match="cannot be read"):
        read_subset(train, tmp_path / "nothing.txt")
    with pytest.raises(DataError, match="occur in several classes"):
        read_subset(load_pair(str(images), None)[0], listed)


@pytest.mark.slow
def test_it_learns_and_says_how(encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "write", lambda self, step, state: None)  # 90 MB an epoch
    # Untrained and of a few steps: at the larger rate of 0.02 a bad last step decides.
    entry = evaluate_finetune(config(encoder, images, tmp_path, labels="100%", epochs=5, lr=0.005)).entry
    assert entry["value"] > 60
    protocol = entry["protocol"]
    assert protocol["train_images"] == 36 and protocol["test_transform"] == "Resize(18, bilinear) -> CenterCrop(16)"
    assert protocol["augmentation"] == "RandomResizedCrop(16, 0.08-1), horizontal flip"
    assert entry["metric"] == "finetune_top1_5ep" and entry["encoder"]["trained"]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_interrupted_it_goes_on_to_the_same_result(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_finetune(config(encoder, images, tmp_path / "whole", epochs=3)).entry
    write: Callable[..., None] = Checkpoints.write
    epochs = []

    def write_then_stop(self: Checkpoints, step: int, state: dict[str, Any]) -> None:
        write(self, step, state)
        epochs.append(step // 3)  # of 18 images in batches of 6
        if epochs == [1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "write", write_then_stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate_finetune(config(encoder, images, tmp_path / "part", epochs=3))
    rest = evaluate_finetune(config(encoder, images, tmp_path / "part", epochs=3)).entry
    assert epochs == [1, 2, 3]
    assert (rest["top1"], rest["mean_per_class"]) == (whole["top1"], whole["mean_per_class"])


@pytest.mark.slow
def test_ended_within_an_epoch_it_goes_on_to_the_same_result(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_finetune(config(encoder, images, tmp_path / "whole", epochs=3)).entry
    step: Callable[..., Any] = FinetuneTrainer.train_step
    losses: list[list[float]] = [[]]

    def step_then_end(self: FinetuneTrainer) -> Any:
        values = step(self)
        losses[-1].append(float(values["loss"]))
        if len(losses) == 1 and self.step == 4:  # of 3 in an epoch
            signal.raise_signal(signal.SIGTERM)
        return values

    monkeypatch.setattr(FinetuneTrainer, "train_step", step_then_end)
    with pytest.raises(Terminated):
        evaluate_finetune(config(encoder, images, tmp_path / "part", epochs=3))
    losses.append([])
    rest = evaluate_finetune(config(encoder, images, tmp_path / "part", epochs=3)).entry
    assert (rest["top1"], rest["mean_per_class"]) == (whole["top1"], whole["mean_per_class"])
    losses.append([])
    evaluate_finetune(config(encoder, images, tmp_path / "again", epochs=3))
    assert losses[0] + losses[1] == losses[2] and len(losses[1]) == 5


def test_a_checkpoint_of_an_older_version_is_refused_in_one_line(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "_score", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_finetune(config(encoder, images, tmp_path, epochs=1))
    (kept,) = (tmp_path / "checkpoints").iterdir()
    write_state(kept, {"epoch": 1, "encoder": {}, "head": {}, "optimiser": {}})
    with pytest.raises(ResumeError, match=r"\.pt: cannot be read \(of format None.*remove it to start over"):
        evaluate_finetune(config(encoder, images, tmp_path, epochs=1))


@pytest.mark.slow
def test_the_command(encoder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--encoder", str(encoder), "--dataset", str(images), "--out", str(tmp_path), "--crop", "16"]
    arguments += ["--labels", "4-per-class", "--epochs", "1", "--device", "cpu", "--seed", "0,1"]
    for told in ("(12 labels, last of 1 epochs", "done before; last of 1 epochs"):
        assert invoke(group, ["finetune", *arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3 and told in lines[0] and "mean of 2 seeds" in lines[2]


@pytest.mark.slow
def test_faults(encoder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^labels 20-per-class: class dark of .* has 12 training images"):
        evaluate_finetune(config(encoder, images, tmp_path, labels="20-per-class"))
    with pytest.raises(TrainingError, match="loss is not finite in epoch"):
        evaluate_finetune(config(encoder, images, tmp_path, lr=1e30))
    one_step = {"epochs": 1, "labels": "2-per-class"}
    with pytest.raises(TrainingError, match=r"at epoch 1 a value of conv1.weight is .*; give a smaller lr than 1e\+30"):
        evaluate_finetune(config(encoder, images, tmp_path, lr=1e30, **one_step))
    with pytest.raises(TrainingError, match=r"outputs are not finite; give a smaller lr than 10000"):
        evaluate_finetune(config(encoder, images, tmp_path, lr=1e4, **one_step))
    assert not (tmp_path / "finetune.json").exists()


@pytest.mark.parametrize("labels", ["0%", "101%", "1", "0-per-class", "-1%", "per-class"])
def test_labels_that_mean_nothing(labels: str) -> None:
    with pytest.raises(ValueError, match=r"^labels"):
        FinetuneConfig(encoder="x", dataset="y", out=Path("z"), labels=labels)
