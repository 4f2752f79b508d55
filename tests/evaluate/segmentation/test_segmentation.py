"""The whole command: what it leaves, that it goes on after an interruption as if there had been none, and that it learns."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.cli import Terminated, invoke
from genrep.errors import ConfigError, DataError, ResumeError
from genrep.evaluate import SegmentationConfig, evaluate_segmentation
from genrep.evaluate.segmentation import run as run_module
from genrep.evaluate.segmentation.confusion import Confusion
from genrep.evaluate.segmentation.head import HeadTrainer
from genrep.evaluate.segmentation.layout import read_splits
from genrep.papers.cli import group

Small = Callable[[str], Path]
RESNET, VIT = "resnet18:width=8", "vit_small_patch16_224:depth=1"


def config(encoder: Path, data: Path, out: Path, **options: Any) -> SegmentationConfig:
    given = {"encoder": encoder, "data": data, "out": out, "preset": "small", "workers": 1, "device": "cpu"}
    classes = () if (data / "ImageSets").exists() else ("3",)
    return SegmentationConfig(**{**given, "classes": classes, "checkpoint_every": 2, "log_every": 1, **options})


def lines(folder: Path | None) -> list[dict[str, Any]]:
    assert folder is not None
    found = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("seconds")
    return found


def test_a_training_ended_by_a_signal_goes_on_to_the_same_bytes(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluate_segmentation(config(small(RESNET), shapes, tmp_path / "whole"))
    assert json.loads((tmp_path / "whole/segmentation.json").read_text()) == [whole.entry]
    assert [line["step"] for line in lines(whole.folder)] == [1, 2, 3, 4, 5, 6]
    step = HeadTrainer.train_step

    def step_then_end(self: HeadTrainer) -> Any:
        values = step(self)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return values

    with monkeypatch.context() as patch:
        patch.setattr(HeadTrainer, "train_step", step_then_end)
        with pytest.raises(Terminated):
            evaluate_segmentation(config(small(RESNET), shapes, tmp_path / "parts"))
    capsys.readouterr()
    parts = evaluate_segmentation(config(small(RESNET), shapes, tmp_path / "parts", workers=3, feature_batch=3))
    assert "resuming after step 3 of 6" in capsys.readouterr().err
    assert lines(parts.folder) == lines(whole.folder)
    assert parts.entry["values"] == whole.entry["values"]

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "Run", None)  # nothing is computed
        again = evaluate_segmentation(config(small(RESNET), shapes, tmp_path / "parts"))
    assert again.already_done and again.entry == parts.entry
    with pytest.raises(ResumeError, match="holds this result for another encoder"):
        evaluate_segmentation(config(small(VIT), shapes, tmp_path / "parts"))


def test_another_stride_tests_the_trained_head_again(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_segmentation(config(small(RESNET), shapes, tmp_path, steps=2))
    monkeypatch.setattr(HeadTrainer, "train_step", None)  # nothing is trained
    second = evaluate_segmentation(config(small(RESNET), shapes, tmp_path, steps=2, stride=16))
    assert second.folder == first.folder
    assert [entry["protocol"]["stride"] for entry in json.loads(second.path.read_text())] == [24, 16]


def constant(data: Path) -> float:
    """The best mIoU of a prediction that is the same everywhere."""
    test = read_splits(data, (None, None), 3 if not (data / "ImageSets").exists() else None, None)[1]
    found = []
    for guess in range(3):
        confusion = Confusion(len(test.classes))
        for index in range(len(test)):
            mask = test.mask(index)
            confusion.add(mask, np.full_like(mask, guess))
        found.append(confusion.mean_iou())
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [RESNET, VIT])
def test_a_trained_head_beats_every_constant_prediction(small: Small, shapes: Path, tmp_path: Path, arch: str) -> None:
    entry = evaluate_segmentation(config(small(arch), shapes, tmp_path, steps=40, lr=0.02)).entry
    assert constant(shapes) < 30 < 45 < entry["value"]
    assert entry["values"]["IoU_per_class"].keys() == {"0", "1", "2"}
    assert (entry["dataset"], entry["metric"], entry["n"]) == ("shapes", "mIoU", 5)
    protocol = entry["protocol"]
    assert protocol["layout"] == "folder" and protocol["crop"] == 32 and "neighbours" not in protocol
    assert protocol["metric"] == "mIoU" and {"train_sha256", "test_sha256"} <= protocol.keys()


@pytest.mark.parametrize("arch", [RESNET, VIT])
def test_nearest_patches_beat_every_constant_prediction(small: Small, voc: Path, tmp_path: Path, arch: str) -> None:
    entry = evaluate_segmentation(config(small(arch), voc, tmp_path, preset="capi")).entry
    assert constant(voc) < 30 < 40 < entry["value"]
    assert entry["patches"] == [4, 4] and len(entry["grid"]) == 8
    best = max(entry["grid"], key=lambda one: one["value"])
    assert (entry["k"], entry["distance"]) == (best["k"], best["distance"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "inventories", "segmentation.json"]
    protocol = entry["protocol"]
    assert protocol["neighbours"] == [1, 3, 10, 30] and protocol["held_out"] == 10 and "lr" not in protocol
    assert protocol["predicted_void"] == "one more class, of IoU 0"
    assert protocol["layout"] == "voc" and len(protocol["classes"]) == 21

    again = evaluate_segmentation(
        config(small(arch), voc, tmp_path / "again", preset="capi", workers=3, feature_batch=5, cache=False)
    ).entry
    assert again["values"] == entry["values"] and again["grid"] == entry["grid"]


def test_the_features_are_computed_once(
    small: Small, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_segmentation(config(small(RESNET), voc, tmp_path, preset="capi")).entry
    monkeypatch.setattr(run_module, "token_batches", None)
    second = evaluate_segmentation(config(small(RESNET), voc, tmp_path, preset="capi", force=True)).entry
    assert second["values"] == first["values"]


def test_the_command(small: Small, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["segmentation", "--encoder", str(small(RESNET)), "--data", str(shapes), "--out", str(tmp_path)]
    arguments += [
        "--classes",
        "noise,box,disc",
        "--preset",
        "small",
        "--steps",
        "1",
        "--seed",
        "0,1",
        "--device",
        "cpu",
    ]
    for told in ("(small, 1 steps, seed 0)", "(done before; small, 1 steps, seed 0)"):
        assert invoke(group, arguments) == 0
        said = capsys.readouterr().out.splitlines()
        assert len(said) == 3 and told in said[0] and "mean of 2 seeds" in said[2]
        assert said[0].startswith("shapes mIoU ") and "of 3 classes" in said[0]
    assert invoke(group, ["table", str(tmp_path)]) == 0
    assert "shapes, mIoU (percent), n = 5 test images" in capsys.readouterr().out
    assert invoke(group, ["report", f"mine={tmp_path}", "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report/report.md").read_text()
    assert "segmentation of frozen patches" in page and "mIoU (%)" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 64}, "crop 64: wanted at most size, 32"),
        ({"stride": 33}, "stride 33: wanted at most crop, 32"),
        ({"preset": "capi", "steps": 3}, "steps: preset capi trains nothing"),
        ({"classes": ("256",)}, "classes 256: wanted 1 to 255"),
        ({"classes": ("0",)}, "classes 0: wanted 1 to 255"),
        ({"classes": ("a", "a")}, "classes a,a: wanted different names"),
    ],
)
def test_settings_that_do_not_go_together(
    small: Small, shapes: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(small(RESNET), shapes, tmp_path, **options)


def test_patches_must_fit(small: Small, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="patches have 8 pixels, and these images 36x36; give a size that is a multiple"
    ):
        evaluate_segmentation(config(small(VIT), shapes, tmp_path, preset="capi", size=36))
    with pytest.raises(ConfigError, match="size 36: the encoder makes 5x5 patches of it; wanted a multiple"):
        evaluate_segmentation(config(small(RESNET), shapes, tmp_path, preset="capi", size=36))


def test_too_few_images_to_hold_one_out(small: Small, own_shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split train: 3 images; wanted at least 10"):
        evaluate_segmentation(config(small(RESNET), own_shapes, tmp_path / "out", preset="capi"))


def test_a_mask_changed_since_is_another_result(small: Small, own_shapes: Path, tmp_path: Path) -> None:
    from PIL import Image

    out = tmp_path / "out"
    first = evaluate_segmentation(config(small(RESNET), own_shapes, out, steps=1)).entry
    path = own_shapes / "masks/val/00.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[0] = 1
    Image.fromarray(mask).save(path)
    second = evaluate_segmentation(config(small(RESNET), own_shapes, out, steps=1)).entry
    assert first["protocol"]["test_sha256"] != second["protocol"]["test_sha256"]
    assert first["protocol"]["train_sha256"] == second["protocol"]["train_sha256"]
