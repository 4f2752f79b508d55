"""The protocol end to end: what linear.json holds, that nothing is overwritten silently, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genrep.encoders import build_encoder, save_encoder
from genrep.errors import DataError, ResumeError, WeightsError
from genrep.evaluate import LinearConfig, evaluate_linear
from genrep.evaluate import run as run_module


def config(encoder: Path | None, images: Path, out: Path, **options: Any) -> LinearConfig:
    return LinearConfig(
        **{"encoder": encoder, "dataset": str(images), "out": out, "epochs": 3, "device": "cpu", **options}
    )


def entries(out: Path) -> list[dict[str, Any]]:
    found = json.loads((out / "linear.json").read_text())
    assert isinstance(found, list)
    return found


def test_the_entry_says_everything(encoder: Path, images: Path, tmp_path: Path) -> None:
    result = evaluate_linear(config(encoder, images, tmp_path, lr_grid=(0.5,), epochs=40))
    (entry,) = entries(tmp_path)
    assert entry == result.entry
    assert entry.keys() >= {
        "metric",
        "value",
        "n",
        "protocol",
        "seed",
        "encoder_sha256",
        "seconds",
        "dataset",
        "best_value",
    }
    assert (entry["metric"], entry["unit"], entry["n"], entry["seed"]) == ("linear_top1_40ep", "percent", 15, 0)
    assert entry["value"] > 90  # brightness is easy to see, through a random network too
    assert entry["best_value"] >= entry["value"]
    assert [head["lr"] for head in entry["lr_grid"]] == [0.5]
    assert entry["protocol"]["train_images"] == 36
    assert entry["protocol"]["image_shape"] == [16, 16]
    assert entry["normalise"] == {"mean": [0.5] * 3, "std": [0.25] * 3}


def test_appended_by_key_never_overwritten(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_linear(config(encoder, images, tmp_path))
    evaluate_linear(config(encoder, images, tmp_path, seed=1))
    evaluate_linear(config(encoder, images, tmp_path, epochs=2))
    assert [(e["seed"], e["protocol"]["epochs"]) for e in entries(tmp_path)] == [(0, 3), (1, 3), (0, 2)]
    before = (tmp_path / "linear.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "extract_features", None)  # nothing is computed
        again = evaluate_linear(config(encoder, images, tmp_path))
    assert again.already_done and again.entry == first.entry
    assert (tmp_path / "linear.json").read_bytes() == before
    forced = evaluate_linear(config(encoder, images, tmp_path, force=True))
    assert not forced.already_done
    assert forced.entry["value"] == first.entry["value"]
    assert [(e["seed"], e["protocol"]["epochs"]) for e in entries(tmp_path)] == [(0, 3), (1, 3), (0, 2)]


def test_a_result_of_another_encoder_is_no_answer(encoder: Path, images: Path, tmp_path: Path) -> None:
    evaluate_linear(config(encoder, images, tmp_path / "out"))
    facts = run_module.load_encoder(encoder).facts
    save_encoder(tmp_path / "other.safetensors", build_encoder("resnet18", "imagenet", seed=2), facts)
    with pytest.raises(ResumeError, match=r"holds this result for another encoder"):
        evaluate_linear(config(tmp_path / "other.safetensors", images, tmp_path / "out"))


def test_random_init_is_the_seeds(images: Path, tmp_path: Path) -> None:
    options = {"random_init": True, "arch": "resnet18"}
    one = evaluate_linear(config(None, images, tmp_path / "a", **options)).entry
    same = evaluate_linear(config(None, images, tmp_path / "b", **options)).entry
    other = evaluate_linear(config(None, images, tmp_path / "c", seed=1, **options)).entry
    assert one["encoder"] == {"arch": "resnet18", "stem": "imagenet", "trained": False}
    assert (one["value"], one["encoder_sha256"]) == (same["value"], same["encoder_sha256"])
    assert one["encoder_sha256"] != other["encoder_sha256"]


def test_refusals(encoder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such encoder"):
        evaluate_linear(config(tmp_path, images, tmp_path))
    with pytest.raises(DataError, match="neither a folder nor one of"):
        evaluate_linear(config(encoder, tmp_path / "nothing", tmp_path))
    with pytest.raises(DataError, match="--root"):
        evaluate_linear(LinearConfig(encoder=encoder, dataset="fashion_mnist", out=tmp_path))
    (tmp_path / "linear.json").write_text("{}")
    with pytest.raises(DataError, match="wanted a list of results"):
        evaluate_linear(config(encoder, images, tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--encoder or --random-init"),
        ({"random_init": True}, "wanted --arch"),
        ({"encoder": Path("x"), "arch": "resnet18"}, "--arch resnet18"),
        ({"random_init": True, "arch": "vit"}, "--arch 'vit': wanted one of resnet18"),
        ({"encoder": Path("x"), "epochs": 0}, "--epochs 0: wanted at least 1"),
        ({"encoder": Path("x"), "lr": 0.0}, "--lr 0.0: wanted a positive number"),
        ({"encoder": Path("x"), "seed": -1}, "--seed -1"),
    ],
)
def test_settings_that_are_wrong_in_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearConfig(dataset="x", out=Path("y"), **options)
