"""The whole protocol: what voc07.json holds, difficult objects, splits, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torchvision import transforms

from genrep.cli import invoke
from genrep.encoders import build_encoder, load_encoder, save_encoder
from genrep.errors import DataError, ResumeError
from genrep.evaluate.commands import voc07_command as command
from genrep.evaluate.voc import run as run_module
from genrep.evaluate.voc.average_precision import classification_ap
from genrep.evaluate.voc.config import Voc07Config
from genrep.evaluate.voc.layout import read_pixels, read_split
from genrep.evaluate.voc.run import evaluate_voc07, presence

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def few_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "COSTS", (0.01, 1.0))


def config(encoder: Path, shapes: Path, out: Path, **options: Any) -> Voc07Config:
    given = {
        "encoder": encoder,
        "data": shapes,
        "out": out,
        "size": 32,
        "batch_size": 15,
        "workers": 1,
        "device": "cpu",
        **options,
    }
    return Voc07Config(**given)


@pytest.mark.slow
def test_the_entry_says_everything_and_agrees_with_scikit_learn(encoder: Path, shapes: Path, tmp_path: Path) -> None:
    entry = evaluate_voc07(config(encoder, shapes, tmp_path)).entry
    assert json.loads((tmp_path / "voc07.json").read_text()) == [entry]
    assert (entry["dataset"], entry["metric"], entry["unit"], entry["n"]) == ("VOC2007", "voc07_mAP", "percent", 45)
    assert entry["value"] == entry["values"]["11point"] > 80  # brightness is easy to see
    assert (entry["protocol"]["train"], entry["protocol"]["test"]) == ("trainval, 90 images", "test, 45 images")
    assert entry["encoder_sha256"] == load_encoder(encoder).sha256
    train, test = features_by_hand(encoder, shapes, "trainval"), features_by_hand(encoder, shapes, "test")
    for column, name in enumerate(("lamp", "owl")):
        labels = {
            split: presence(read_split([shapes], split), difficult_counts=False)[:, column]
            for split in ("trainval", "test")
        }
        kept, tested = labels["trainval"] != 0, labels["test"] != 0
        svm = LinearSVC(C=entry["cost"][name], class_weight={1: 2, -1: 1}, max_iter=2000, random_state=1)
        scores = svm.fit(train[kept], labels["trainval"][kept]).decision_function(test)
        for metric in ("area", "11point"):
            wanted = 100 * classification_ap(scores[tested], labels["test"][tested] == 1, metric)
            assert entry["per_class"][metric][name] == pytest.approx(wanted, abs=0.1)


def features_by_hand(encoder: Path, shapes: Path, split: str) -> np.ndarray:
    loaded = load_encoder(encoder)
    view = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(loaded.facts.mean, loaded.facts.std),
        ]
    )
    batch = torch.stack([view(read_pixels(image)) for image in read_split([shapes], split).images])
    with torch.no_grad():
        features = loaded.module(batch).double().numpy()
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)


def test_difficult_objects_are_ignored_or_counted(shapes: Path) -> None:
    split = read_split([shapes], "train")
    ignored, counted = (presence(split, difficult_counts=counts) for counts in (False, True))
    for image, one, two in zip(split.images, ignored, counted):
        for number in (0, 1):
            mine = image.difficult[image.labels == number]
            assert two[number] == (1 if len(mine) else -1)
            assert one[number] == (-1 if not len(mine) else 0 if mine.all() else 1)
    assert (ignored == 0).any()


@pytest.mark.slow
def test_genreps_protocol_is_another_column(encoder: Path, shapes: Path, tmp_path: Path) -> None:
    evaluate_voc07(config(encoder, shapes, tmp_path))
    entry = evaluate_voc07(config(encoder, shapes, tmp_path, protocol="genrep")).entry
    assert entry["value"] == entry["values"]["area"]
    assert (entry["protocol"]["train"], entry["protocol"]["test"]) == ("train, 45 images", "val, 45 images")
    assert "count as any other" in entry["protocol"]["difficult"]
    assert len(json.loads((tmp_path / "voc07.json").read_text())) == 2


@pytest.mark.slow
def test_done_before_other_encoder_force(
    encoder: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_voc07(config(encoder, shapes, tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "feature_batches", None)  # nothing is computed
        again = evaluate_voc07(config(encoder, shapes, tmp_path / "out"))
    assert again.already_done and again.entry == first.entry
    other = tmp_path / "other.safetensors"
    save_encoder(other, build_encoder("resnet18", "imagenet", seed=2), load_encoder(encoder).facts)
    with pytest.raises(ResumeError, match="holds this result for another encoder"):
        evaluate_voc07(config(other, shapes, tmp_path / "out"))
    forced = evaluate_voc07(config(other, shapes, tmp_path / "out", force=True))
    assert not forced.already_done
    assert json.loads((tmp_path / "out/voc07.json").read_text()) == [forced.entry]


@pytest.mark.slow
def test_does_not_depend_on_the_batch_size(encoder: Path, shapes: Path, tmp_path: Path) -> None:
    one, two = (evaluate_voc07(config(encoder, shapes, tmp_path / str(n), batch_size=n)).entry for n in (7, 45))
    assert one["protocol"] == two["protocol"]
    assert one["value"] == pytest.approx(two["value"], abs=0.1)


@pytest.mark.slow
def test_a_class_that_only_one_split_has(encoder: Path, shapes: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(shapes, root)
    for path in (root / "Annotations").glob("test*.xml"):
        path.write_text(path.read_text().replace("owl", "bat"))
    with pytest.raises(DataError, match=r"'bat': 0 images of trainval show it, wanted 3.*'owl': 0 images of test"):
        evaluate_voc07(config(encoder, root, tmp_path / "out"))
    entry = evaluate_voc07(config(encoder, root, tmp_path / "out", classes=("lamp",))).entry
    assert entry["protocol"]["classes"] == ["lamp"]
    assert any("not of the classes asked for" in line for line in entry["dropped"])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--out", "o"], 2, "--data"),
        (["--data", "d", "--out", "o"], 2, "--encoder or --random-init"),
        (["--data", "d", "--out", "o", "--encoder", "e", "--split", "test/train"], 2, "--split"),
        (["--data", "d", "--out", "o", "--encoder", "e", "--classes", "a,a"], 2, "names a class twice"),
        (["--data", "nowhere", "--out", "o", "--random-init", "--arch", "resnet18"], 1, "nowhere: no such folder"),
        (["--data", "d", "--out", "o", "--encoder", "nowhere"], 1, "nowhere"),
    ],
)
def test_faults_are_one_line(
    arguments: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(command, arguments) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_line_and_a_dry_run(encoder: Path, shapes: Path, tmp_path: Path, capsys: Captured) -> None:
    arguments = ["--encoder", str(encoder), "--data", str(shapes), "--out", str(tmp_path / "out"), "--size", "32"]
    assert invoke(command, [*arguments, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == 32
    assert not (tmp_path / "out").exists()
    assert invoke(command, [*arguments, "--workers", "1", "--device", "cpu"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "mAP" in line and "trainval/test" in line and "45 test images" in line


@pytest.mark.slow
def test_a_long_tail_is_named_whole_or_left_out(encoder: Path, shapes: Path, tmp_path: Path, capsys: Captured) -> None:
    import shutil

    root = Path(shutil.copytree(shapes, tmp_path / "tail"))
    rare = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    for name, kinds in {
        "train000": ("bee", "gnu"),
        "train001": ("gnu",),
        "val000": ("gnu",),
        "test000": ("eel",),
    }.items():
        path = root / f"Annotations/{name}.xml"
        path.write_text(path.read_text().replace("</annotation>", "".join(map(rare.format, kinds)) + "</annotation>"))
    arguments = ["--encoder", str(encoder), "--data", str(root), "--out", str(tmp_path / "out"), "--size", "32"]
    assert invoke(command, [*arguments, "--device", "cpu", "--workers", "1"]) == 1
    told = capsys.readouterr().err
    for part in (
        "3 of 5 classes cannot be measured",
        "'bee': 1 images of trainval show it, wanted 3",
        "'eel': 0 images of trainval show it",
        "'gnu': 0 images of test show it, wanted 1",
        "give --classes measurable for the other 2",
    ):
        assert part in told
    assert invoke(command, [*arguments, "--device", "cpu", "--workers", "1", "--classes", "measurable"]) == 0
    assert "3 of 5 classes cannot be measured" in capsys.readouterr().err
    (entry,) = json.loads((tmp_path / "out/voc07.json").read_text())
    assert entry["protocol"]["classes"] == ["lamp", "owl"]
    assert any("trainval: 4 objects dropped: not of the classes" in line for line in entry["dropped"])


@pytest.mark.slow
def test_mended_annotations_are_measured_anew(encoder: Path, shapes: Path, tmp_path: Path, capsys: Captured) -> None:
    import shutil

    root, out = Path(shutil.copytree(shapes, tmp_path / "mended")), tmp_path / "out"
    evaluate_voc07(config(encoder, root, out))
    path = next(path for path in sorted((root / "Annotations").glob("test*.xml")) if "lamp" in path.read_text())
    path.write_text(path.read_text().replace("lamp", "owl"))
    assert not evaluate_voc07(config(encoder, root, out)).already_done
    assert (
        f"split test, has changed since it was measured here: annotation of 1 image changed, e.g. {path.stem}.jpg"
        in (capsys.readouterr().err)
    )
    assert len(json.loads((out / "voc07.json").read_text())) == 2
