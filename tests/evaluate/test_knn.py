"""``knn`` end to end: what knn.json holds, from encoders of every kind, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from genrep.cli import invoke
from genrep.errors import DataError, ResumeError
from genrep.evaluate import frozen
from genrep.evaluate import knn as module
from genrep.evaluate.commands import knn_command as command
from genrep.evaluate.knn import KnnConfig, evaluate_knn
from genrep.evaluate.settings import KNN_PRESETS

OWN = """
from torch import nn
class Mean(nn.Module):
    size, mean, std = 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    def forward(self, x):
        return x.mean(dim=(2, 3)) + x.new_tensor([1.0, 0.0, -1.0])
"""


def config(encoder: Path | str | None, images: Path, out: Path, **options: Any) -> KnnConfig:
    return KnnConfig(**{"encoder": encoder, "dataset": str(images), "out": out, "k": 3, "device": "cpu", **options})


def test_the_entry_says_everything(encoder: Path, images: Path, tmp_path: Path) -> None:
    result = evaluate_knn(config(encoder, images, tmp_path))
    (entry,) = json.loads((tmp_path / "knn.json").read_text())
    assert entry == result.entry and entry["version"] == 1
    assert (entry["metric"], entry["unit"], entry["n"], entry["seed"]) == ("knn_top1", "percent", 15, 0)
    assert entry["value"] > 60 and entry["top5"] is None  # brightness is easy to see, through a random network too
    assert (
        entry["protocol"].items()
        >= {"name": "knn", "k": 3, "temperature": 0.07, "train_images": 36, "classes": 3}.items()
    )
    assert entry["encoder"] == {"arch": "resnet18", "stem": "imagenet", "trained": True}
    assert len(entry["encoder_sha256"]) == 64 and entry["seconds"] > 0


@pytest.mark.slow
def test_appended_by_key_and_computed_once(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_knn(config(encoder, images, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "feature_batches", None)  # the features are there
        other = evaluate_knn(config(encoder, images, tmp_path, k=5))
        patch.setattr(module, "knn_score", None)  # and so is the result
        again = evaluate_knn(config(encoder, images, tmp_path))
    assert again.already_done and again.entry == first.entry
    assert [e["protocol"]["k"] for e in json.loads((tmp_path / "knn.json").read_text())] == [3, 5]
    assert not other.already_done
    with pytest.raises(ResumeError, match="holds this result for another encoder"):
        evaluate_knn(config(None, images, tmp_path, random_init=True, arch="resnet18", size=16))
    forced = evaluate_knn(config(encoder, images, tmp_path, force=True, cache=False, feature_batch=5))
    assert forced.entry["value"] == first.entry["value"]


def test_another_precision_is_another_protocol(encoder: Path, images: Path, tmp_path: Path) -> None:
    exact = evaluate_knn(config(encoder, images, tmp_path))
    half = evaluate_knn(config(encoder, images, tmp_path, precision="bf16"))
    assert not half.already_done and len(list((tmp_path / "features").glob("*.npy"))) == 4
    assert exact.entry["protocol"]["features"] == "pooled, evaluation mode, float32, of unit length"
    assert half.entry["protocol"]["features"].startswith("pooled, evaluation mode, float32 of a bfloat16 autocast, ")
    assert abs(half.entry["value"] - exact.entry["value"]) < 15  # two of 15 images
    auto = evaluate_knn(config(encoder, images, tmp_path, precision="auto"))
    assert auto.already_done  # it is one of the two
    with pytest.raises(ValueError, match=r"^precision 'fp16': wanted one of auto, fp32, bf16"):
        config(encoder, images, tmp_path, precision="fp16")


def test_a_strangers_checkpoint_and_a_strangers_module(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": torchvision.models.resnet18().state_dict()}, tmp_path / "a.pth")
    options = {"size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    entry = evaluate_knn(config(tmp_path / "a.pth", images, tmp_path / "a", **options)).entry
    assert entry["normalise"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert entry["protocol"]["normalise"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "own_knn_encoder.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    entry = evaluate_knn(config("own_knn_encoder:Mean", images, tmp_path / "b")).entry
    sys.modules.pop("own_knn_encoder")
    assert entry["encoder"]["arch"] == "own_knn_encoder:Mean"
    assert entry["value"] > 90  # the mean is the brightness


def test_the_command_prints_the_result_and_what_was_left_out(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": torchvision.models.resnet18().state_dict()}, tmp_path / "a.pth")
    args = ["--encoder", str(tmp_path / "a.pth"), "--dataset", str(images), "--size", "16", "--out", str(tmp_path)]
    assert invoke(command, [*args, "--k", "3", "--mean", "0.5,0.5,0.5"]) == 0
    said = capsys.readouterr()
    assert "knn_top1" in said.out and "of 15 test images (k 3, temperature 0.07)" in said.out
    assert "left out: state_dict.fc (2 tensors)" in said.err
    assert "size, std: not in the file" in said.err


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        ([], 2, "--encoder or --random-init: give exactly one of the two"),
        (["--random-init"], 2, "requires --arch"),
        (["--encoder", "none.pth"], 1, "none.pth: no such encoder"),
        (["--random-init", "--arch", "resnet18", "--mean", "1,2"], 2, "'1,2': wanted three numbers R,G,B"),
        (["--random-init", "--arch", "resnet18", "--k", "37", "--size", "16"], 1, "--k 37: wanted at most 36"),
    ],
)
def test_faults_are_one_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], status: int, message: str
) -> None:
    assert invoke(command, [*args, "--dataset", str(images), "--out", str(tmp_path / "out")]) == status
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_dry_run_prints_the_settings_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {"k": 20, "temperature": 0.07, "encoder": "runs/x", "dataset": "cifar10"}
    for option in ("--dataset", "--data"):
        args = ["--encoder", "runs/x", option, "cifar10", "--out", str(tmp_path / "out"), "--dry-run"]
        assert invoke(command, args) == 0
        assert json.loads(capsys.readouterr().out).items() >= wanted.items()
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_compared_are_refused(encoder: Path, images: Path, tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(DataError, match="neither a folder nor one of"):
        evaluate_knn(config(encoder, tmp_path / "nothing", tmp_path))
    for split in ("train", "test"):
        (tmp_path / "one" / split / "only").mkdir(parents=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "one" / split / "only" / "a.png")
    with pytest.raises(DataError, match="only one class"):
        evaluate_knn(config(encoder, tmp_path / "one", tmp_path, k=1))


def test_dinov3s_rules(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class token, even where patches are pooled; every k in one entry, of which the one asked for is the result."""
    monkeypatch.setitem(KNN_PRESETS, "dinov3", replace(KNN_PRESETS["dinov3"], ks=(3, 10, 20)))
    arch = "vit_tiny_patch16_224:width=16,depth=2,heads=2"
    options = {"random_init": True, "arch": arch, "patch_size": 4, "global_pool": "avg", "size": 18, "preset": "dinov3"}
    entry = evaluate_knn(config(None, images, tmp_path, **options)).entry
    assert (
        entry["protocol"].items()
        >= {
            "preset": "dinov3",
            "features": "class token, evaluation mode, float32, of unit length",
            "images": "Resize(18, bicubic) -> CenterCrop(16)",
            "k": 3,
            "temperature": 0.07,
            "vote": "softmax of cosine similarity / temperature over the 20 nearest",
        }.items()
    )
    assert list(entry["values"]) == ["3", "10", "20"]
    assert entry["value"] == entry["values"]["3"]["top1"]
    again = evaluate_knn(config(None, images, tmp_path, **options, cache=False, feature_batch=7, force=True)).entry
    assert again["values"] == entry["values"]
    # Class tokens have 16 numbers; beside them in the file stand the means of the patches.
    stored = [np.load(path) for path in (tmp_path / "features").glob("*.npy")]
    train, test = sorted(stored, key=len, reverse=True)
    assert train.shape == (36, 32)
    tokens = [torch.from_numpy(part[:, :16]) for part in (train, test)]
    labels = [torch.arange(3).repeat_interleave(count) for count in (12, 5)]
    scores = module.knn_scores(tokens[0], labels[0], tokens[1], labels[1], num_classes=3, ks=(3, 10, 20))
    assert {k: found["top1"] for k, found in entry["values"].items()} == {str(k): s.top1 for k, s in scores.items()}


def test_dinov3s_rules_want_200_images_and_one_of_their_ks(encoder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^preset dinov3: 36 training images; wanted at least 200"):
        evaluate_knn(config(encoder, images, tmp_path, preset="dinov3", k=20))
    with pytest.raises(ValueError, match=r"^k 3: wanted one of 10, 20, 100, 200 with preset dinov3"):
        config(encoder, images, tmp_path, preset="dinov3")
