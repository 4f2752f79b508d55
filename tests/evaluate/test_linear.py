"""The protocol end to end: what linear.json holds, that nothing is overwritten silently, what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrep.encoders import build_encoder, load_encoder, save_encoder
from genrep.errors import ConfigError, DataError, ResumeError, Terminated, TrainingError, WeightsError
from genrep.evaluate import LinearConfig, evaluate_linear, frozen, protocol
from genrep.evaluate.linear.config import L2_GRID, PRESETS
from genrep.evaluate.linear.training import HeadsTrainer
from genrep.evaluate.transforms import Transform
from genrep.images.sets import load_pair
from genrep.runs.checkpoints import Checkpoints
from genrep.settings import flags_of

CLASSES = ("dark", "middle", "light")


def config(encoder: Path | None, images: Path, out: Path, **options: Any) -> LinearConfig:
    return LinearConfig(
        **{
            "encoder": encoder,
            "dataset": str(images),
            "out": out,
            "epochs": 3,
            "device": "cpu",
            "feature_batch": 16,
            **options,
        }
    )


def entries(out: Path) -> list[dict[str, Any]]:
    found = json.loads((out / "linear.json").read_text())
    assert isinstance(found, list)
    return found


@pytest.mark.slow
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
    assert entry["protocol"]["test_transform"] == "Resize(16, bicubic) -> CenterCrop(16)"
    assert "top5" not in entry  # of three classes
    assert entry["mean_per_class"] == pytest.approx(entry["top1"])  # as many images of each class
    assert entry["normalise"] == {"mean": [0.5] * 3, "std": [0.25] * 3}


def test_appended_by_key_never_overwritten(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_linear(config(encoder, images, tmp_path))
    evaluate_linear(config(encoder, images, tmp_path, seeds=(1,)))
    evaluate_linear(config(encoder, images, tmp_path, epochs=2))
    assert [(e["seed"], e["protocol"]["epochs"]) for e in entries(tmp_path)] == [(0, 3), (1, 3), (0, 2)]
    before = (tmp_path / "linear.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "feature_batches", None)  # nothing is computed
        again = evaluate_linear(config(encoder, images, tmp_path))
    assert again.already_done and again.entry == first.entry
    assert (tmp_path / "linear.json").read_bytes() == before
    forced = evaluate_linear(config(encoder, images, tmp_path, force=True))
    assert not forced.already_done
    assert forced.entry["value"] == first.entry["value"]
    assert [(e["seed"], e["protocol"]["epochs"]) for e in entries(tmp_path)] == [(0, 3), (1, 3), (0, 2)]


def test_a_result_of_another_encoder_is_no_answer(encoder: Path, images: Path, tmp_path: Path) -> None:
    evaluate_linear(config(encoder, images, tmp_path / "out"))
    facts = load_encoder(encoder).facts
    save_encoder(tmp_path / "other.safetensors", build_encoder("resnet18", "imagenet", seed=2), facts)
    with pytest.raises(ResumeError, match=r"holds this result for another encoder"):
        evaluate_linear(config(tmp_path / "other.safetensors", images, tmp_path / "out"))


@pytest.mark.slow
def test_random_init_is_the_seeds(images: Path, tmp_path: Path) -> None:
    options = {"random_init": True, "arch": "resnet18"}
    one = evaluate_linear(config(None, images, tmp_path / "a", **options)).entry
    same = evaluate_linear(config(None, images, tmp_path / "b", **options)).entry
    other = evaluate_linear(config(None, images, tmp_path / "c", seeds=(1,), **options)).entry
    assert one["encoder"] == {"arch": "resnet18", "stem": "imagenet", "trained": False}
    assert (one["value"], one["encoder_sha256"]) == (same["value"], same["encoder_sha256"])
    assert one["encoder_sha256"] != other["encoder_sha256"]


def test_refusals(encoder: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such encoder"):
        evaluate_linear(config(tmp_path, images, tmp_path))
    with pytest.raises(DataError, match="neither a folder nor one of"):
        evaluate_linear(config(encoder, tmp_path / "nothing", tmp_path))
    with pytest.raises(DataError, match=" as root"):
        evaluate_linear(LinearConfig(encoder=encoder, dataset="fashion_mnist", out=tmp_path))
    (tmp_path / "linear.json").write_text("{}")
    with pytest.raises(DataError, match="wanted a list of results"):
        evaluate_linear(config(encoder, images, tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--encoder or --random-init"),
        ({"random_init": True}, "requires --arch, for instance --arch resnet18"),
        ({"encoder": Path("x"), "arch": "resnet18"}, "--arch resnet18"),
        ({"random_init": True, "arch": "vit"}, "--arch 'vit': wanted one of resnet18"),
        ({"encoder": Path("x"), "epochs": 0}, "--epochs 0: wanted at least 1"),
        ({"encoder": Path("x"), "lr": 0.0}, "--lr 0.0: wanted a positive number"),
        ({"encoder": Path("x"), "seeds": (-1,)}, "--seed -1"),
        ({"encoder": Path("x"), "seeds": (1, 1)}, "--seed 1,1: wanted one or more different numbers"),
        ({"encoder": Path("x"), "preset": "moco"}, "--preset 'moco': wanted one of frozen, genrep"),
        (
            {"encoder": Path("x"), "preset": "simclr-lbfgs", "epochs": 3},
            "--epochs: --preset simclr-lbfgs does not train by SGD",
        ),
        ({"encoder": Path("x"), "preset": "genrep", "crop": 200}, "--crop 200: wanted at most --size, 128"),
    ],
)
def test_settings_that_are_wrong_in_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LinearConfig(dataset="x", out=Path("y"), **options)
    assert message in caught.value.in_shell(flags_of(LinearConfig)) and "--" not in str(caught.value)


def test_seeds_have_an_entry_each_and_a_mean(encoder: Path, images: Path, tmp_path: Path) -> None:
    result = evaluate_linear(config(encoder, images, tmp_path, seeds=(0, 1, 2), epochs=1, lr=0.001))
    values = [entry["value"] for entry in entries(tmp_path)]
    assert [entry["seed"] for entry in entries(tmp_path)] == [0, 1, 2]
    assert result.mean == pytest.approx(np.mean(values)) and result.std == pytest.approx(np.std(values, ddof=1))
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2  # the seeds share the features
    more = evaluate_linear(config(encoder, images, tmp_path, seeds=(2, 3), epochs=1, lr=0.001))
    assert not more.already_done and more.entries[0] == result.entries[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["genrep", "cop-gen", "hl", "vissl"])
def test_presets_train_under_augmentation(encoder: Path, images: Path, tmp_path: Path, name: str) -> None:
    result = evaluate_linear(config(encoder, images, tmp_path, preset=name, size=18, epochs=2, batch_size=16))
    protocol = result.entry["protocol"]
    crop = round(PRESETS[name].transform.crop * 18 / PRESETS[name].transform.resize)
    assert protocol["augmentation"].startswith(f"RandomResizedCrop({crop}, ")
    assert protocol["test_transform"] == f"Resize(18, bilinear) -> CenterCrop({crop})"
    assert len(result.entry["lr_grid"]) == len(PRESETS[name].lr_grid)
    assert (
        result.entry["lr"] == pytest.approx(PRESETS[name].lr * 16 / PRESETS[name].batch_size)
        and 0 <= result.entry["value"] <= 100
    )
    assert not (tmp_path / "checkpoints").exists()


def test_logistic_regression_by_preset(encoder: Path, images: Path, tmp_path: Path) -> None:
    entry = evaluate_linear(
        config(encoder, images, tmp_path, preset="simclr-lbfgs", size=16, epochs=None, cache=False)
    ).entry
    assert entry["metric"] == "linear_top1_lbfgs" and entry["value"] > 80
    assert entry["l2"] in L2_GRID and "lr" not in entry
    assert not (tmp_path / "features").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["frozen", "genrep"])
def test_the_result_depends_on_neither_workers_nor_the_feature_batch(
    encoder: Path, images: Path, tmp_path: Path, preset: str
) -> None:
    options = {"preset": preset, "epochs": 2, "size": 16, "batch_size": 12, "cache": False}
    one = evaluate_linear(config(encoder, images, tmp_path / "a", workers=1, **options)).entry
    two = evaluate_linear(config(encoder, images, tmp_path / "b", workers=5, **options)).entry
    three = evaluate_linear(config(encoder, images, tmp_path / "c", workers=3, feature_batch=7, **options)).entry
    for entry in (two, three):
        assert entry["value"] == one["value"] and entry["protocol"] == one["protocol"]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["frozen", "genrep"])
def test_another_precision_is_another_protocol(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    used = []

    class Spy(torch.autocast):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            used.append(kwargs["enabled"])
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(torch, "autocast", Spy)
    # At 48 pixels no layer's input is narrower than its stride: every convolution is of the precision that was asked for.
    options = {"preset": preset, "size": 48, "batch_size": 12}
    exact = evaluate_linear(config(encoder, images, tmp_path, **options))
    assert not any(used)
    used.clear()
    half = evaluate_linear(config(encoder, images, tmp_path, precision="bf16", **options))
    assert used and all(used)
    said = [entry["protocol"].pop("features") for entry in (exact.entry, half.entry)]
    assert said[0].startswith("pooled, evaluation mode, float32, ")
    assert said[1].startswith("pooled, evaluation mode, float32 of a bfloat16 autocast, ")
    assert exact.entry["protocol"] == half.entry["protocol"] and len(entries(tmp_path)) == 2
    with pytest.raises(ValueError, match=r"^precision 'fp16': wanted one of auto, fp32, bf16"):
        config(encoder, images, tmp_path, precision="fp16")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["frozen", "genrep"])
@pytest.mark.parametrize("options", [{"lr": 1e38}, {"lr": 0.1, "lr_grid": (1e38,)}])
def test_a_classifier_that_diverged_is_no_result(
    encoder: Path, images: Path, tmp_path: Path, preset: str, options: dict[str, Any]
) -> None:
    with pytest.raises(TrainingError, match=r"outputs are not finite; give a smaller lr than 1e\+38$"):
        evaluate_linear(config(encoder, images, tmp_path, preset=preset, size=16, batch_size=12, **options))
    assert not (tmp_path / "linear.json").exists()


def amplified(encoder: Path, path: Path, *blocks: str) -> None:
    """An encoder whose every weight is one that training may leave, but whose blocks multiply by 1e10 each."""
    loaded = load_encoder(encoder)
    for block in blocks:
        for name in ("bn1", "bn2"):
            loaded.module.get_parameter(f"{block}.{name}.weight").data.fill_(1e5)
    save_encoder(path, loaded.module, loaded.facts)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["frozen", "genrep", "simclr-lbfgs"])
def test_features_that_are_not_finite_are_no_result(encoder: Path, images: Path, tmp_path: Path, preset: str) -> None:
    amplified(encoder, tmp_path / "huge.safetensors", *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)))
    options = {"preset": preset, "size": 16, "epochs": None if preset == "simclr-lbfgs" else 1}
    with pytest.raises(WeightsError, match="features are not finite: the encoder has diverged"):
        evaluate_linear(config(tmp_path / "huge.safetensors", images, tmp_path, **options))
    assert not (tmp_path / "linear.json").exists() and not list((tmp_path / "features").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["frozen", "simclr-lbfgs"])
def test_features_too_large_to_be_squared_are_no_result(
    encoder: Path, images: Path, tmp_path: Path, preset: str
) -> None:
    amplified(encoder, tmp_path / "large.safetensors", "layer3.1", "layer4.0", "layer4.1")
    options = {"preset": preset, "size": 16, "epochs": None if preset == "simclr-lbfgs" else 1}
    with pytest.raises(TrainingError, match="the features are too large for float32: the encoder has diverged"):
        evaluate_linear(config(tmp_path / "large.safetensors", images, tmp_path, **options))


def test_a_rate_does_not_follow_from_features_that_are_all_zero(encoder: Path, images: Path, tmp_path: Path) -> None:
    loaded = load_encoder(encoder)
    for name in ("layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn2"):
        for part in ("weight", "bias"):
            loaded.module.get_parameter(f"{name}.{part}").data.zero_()
    save_encoder(tmp_path / "zero.safetensors", loaded.module, loaded.facts)
    with pytest.raises(
        TrainingError, match="all features are zero, so no lr can be derived from them: the encoder has collapsed"
    ):
        evaluate_linear(config(tmp_path / "zero.safetensors", images, tmp_path))


@pytest.mark.slow
def test_interrupted_training_goes_on_to_the_same_result(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"preset": "genrep", "epochs": 4, "size": 16, "batch_size": 8}
    whole = evaluate_linear(config(encoder, images, tmp_path / "whole", **options)).entry
    epochs = []
    write = Checkpoints.write

    def write_then_stop(self: Checkpoints, step: int, state: dict[str, Any]) -> None:
        write(self, step, state)
        epoch = step // 5  # of 36 images in batches of 8
        epochs.append(epoch)
        if epoch == 2 and epochs.count(2) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "write", write_then_stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate_linear(config(encoder, images, tmp_path / "part", **options))
    (kept,) = (tmp_path / "part/checkpoints").iterdir()
    rest = evaluate_linear(config(encoder, images, tmp_path / "part", **options)).entry
    assert epochs == [1, 2, 3, 4]
    for name in ("value", "best_value", "lr_grid", "top1", "mean_per_class"):
        assert rest[name] == whole[name]
    assert not kept.exists()


@pytest.mark.slow
def test_ended_within_an_epoch_it_goes_on_to_the_same_result(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"preset": "vissl", "epochs": 3, "size": 16, "batch_size": 8}
    whole = evaluate_linear(config(encoder, images, tmp_path / "whole", **options)).entry
    step = HeadsTrainer.train_step
    steps: list[int] = []

    def step_then_end(self: HeadsTrainer) -> Any:
        steps.append(self.step)
        if steps == list(range(8)):  # of 5 in an epoch
            signal.raise_signal(signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(HeadsTrainer, "train_step", step_then_end)
    with pytest.raises(Terminated):
        evaluate_linear(config(encoder, images, tmp_path / "part", **options))
    rest = evaluate_linear(config(encoder, images, tmp_path / "part", **options)).entry
    assert steps == list(range(15))
    for name in ("value", "best_value", "lr_grid", "top1", "mean_per_class"):
        assert rest[name] == whole[name]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_of_and_not_used(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"preset": "genrep", "epochs": 2, "size": 16, "batch_size": 16}
    whole = evaluate_linear(config(encoder, images, tmp_path / "whole", **options)).entry
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "add", lambda path, entry: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_linear(config(encoder, images, tmp_path / "part", **options))
    (kept,) = (tmp_path / "part/checkpoints").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    again = evaluate_linear(config(encoder, images, tmp_path / "part", **options)).entry
    assert again["value"] == whole["value"]
    assert "cannot be read" in capsys.readouterr().err


def test_photos_of_any_shape_are_resized_as_torchvision_does(tmp_path: Path) -> None:
    from PIL import Image
    from torchvision import transforms

    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (33, 50, 3)).astype(np.uint8))
    for preset, kind in (("genrep", "bilinear"), ("simclr-lbfgs", "bicubic")):
        law = PRESETS[preset].transform
        wanted = transforms.Compose(
            [
                transforms.Resize(law.resize, transforms.InterpolationMode(kind)),
                transforms.CenterCrop(law.crop),
            ]
        )(image)
        np.testing.assert_array_equal(law(image), np.asarray(wanted))
    assert Transform(resize=20, stretch=True)(image).shape == (20, 20, 3)


def test_images_of_several_sizes_need_a_size(encoder: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "data")
    from PIL import Image

    Image.new("RGB", (30, 20)).save(tmp_path / "data/train/dark/other.png")
    options = {"random_init": True, "arch": "resnet18"}
    with pytest.raises(DataError, match=r"20x30 pixels where others have 16x16; give size"):
        evaluate_linear(config(None, tmp_path / "data", tmp_path / "out", **options))
    evaluate_linear(config(None, tmp_path / "data", tmp_path / "out", size=16, epochs=1, **options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: shutil.rmtree(data / "test/dark"), r"test: no folder of 1 of 3 classes, e.g. dark"),
        (lambda data: (data / "test/new").mkdir(), r"new: a class that .*train lacks"),
        (lambda data: [f.unlink() for f in (data / "train/dark").iterdir()], r"train/dark: no images"),
        (lambda data: (data / "test/dark/0.png").write_bytes(b"x"), r"test/dark/0.png: not a readable image"),
        (
            lambda data: shutil.rmtree(data / "test"),
            r"data: no test/ or val/ or valid/ or validation/ subfolder beside train/",
        ),
        (lambda data: [shutil.rmtree(data / s / c) for s in ("train", "test") for c in CLASSES[:2]], "only one class"),
    ],
)
def test_folders_that_are_no_dataset(
    encoder: Path, images: Path, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    shutil.copytree(images, tmp_path / "data")
    change(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        evaluate_linear(config(encoder, tmp_path / "data", tmp_path / "out"))


def test_labels_do_not_depend_on_the_order_of_the_folder(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = load_pair(str(images), None)[0]
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listing(self), reverse=True))
    found = load_pair(str(images), None)[0]
    assert found.classes == wanted.classes == ("dark", "light", "middle")
    assert found.paths is not None and wanted.paths is not None
    assert found.paths == wanted.paths and (found.labels == wanted.labels).all()
