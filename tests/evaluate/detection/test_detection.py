"""The whole command: what it leaves, that it goes on after an interruption as if there had been none, what it refuses."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.encoders import build_encoder, load_encoder, save_encoder
from genrep.errors import DataError, ResumeError, TrainingError
from genrep.evaluate.commands import detection_command as command
from genrep.evaluate.detection import run as run_module
from genrep.evaluate.detection.config import DetectionConfig
from genrep.evaluate.detection.run import evaluate_detection
from genrep.evaluate.detection.training import DetectionStep
from genrep.runs.checkpoints import write_state

Captured = pytest.CaptureFixture[str]


def config(encoder: Path, data: Path, out: Path, **options: Any) -> DetectionConfig:
    given = {"encoder": encoder, "data": (data,), "out": out, "preset": "small", "workers": 1, "device": "cpu"}
    return DetectionConfig(**{**given, "checkpoint_every": 2, "log_every": 1, **options})


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("seconds")
    return found


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_was_not(
    encoder: Path, rectangles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    whole = evaluate_detection(config(encoder, rectangles, tmp_path / "whole"))
    assert json.loads((tmp_path / "whole/detection.json").read_text()) == [whole.entry]
    entry = whole.entry
    assert (entry["dataset"], entry["metric"], entry["n"]) == ("rectangles", "detection_AP", 4)
    assert entry["value"] == entry["values"]["voc07"]["AP"]
    assert entry["protocol"]["classes"] == ["blue", "red"] and entry["protocol"]["lr"] == 0.02
    assert [line["step"] for line in lines(whole.folder)] == [1, 2, 3, 4, 5, 6]
    assert entry["encoder_sha256"] == load_encoder(encoder).sha256

    step = DetectionStep.train_step

    def stop(self: DetectionStep, batch: Any) -> dict[str, float]:
        if self.step == 5:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionStep, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate_detection(config(encoder, rectangles, tmp_path / "parts"))
    capsys.readouterr()
    parts = evaluate_detection(config(encoder, rectangles, tmp_path / "parts", workers=3))
    assert "resuming after step 4 of 6" in capsys.readouterr().err
    assert lines(parts.folder) == lines(whole.folder)
    assert parts.entry["values"] == whole.entry["values"]

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "Run", None)  # nothing is computed
        again = evaluate_detection(config(encoder, rectangles, tmp_path / "parts"))
    assert again.already_done and again.entry == parts.entry
    other = tmp_path / "other.safetensors"
    save_encoder(other, build_encoder("resnet18", "imagenet", seed=2), load_encoder(encoder).facts)
    with pytest.raises(ResumeError, match="holds this result for another encoder"):
        evaluate_detection(config(other, rectangles, tmp_path / "parts"))


@pytest.mark.slow
def test_it_learns(encoder: Path, rectangles: Path, tmp_path: Path) -> None:
    result = evaluate_detection(config(encoder, rectangles, tmp_path, steps=24, log_every=4))
    losses = [line["loss"] for line in lines(result.folder)]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.slow
def test_a_damaged_checkpoint_and_force(encoder: Path, rectangles: Path, tmp_path: Path) -> None:
    short = {"steps": 1, "norm": "frozen"}
    first = evaluate_detection(config(encoder, rectangles, tmp_path, **short))
    forced = evaluate_detection(config(encoder, rectangles, tmp_path, **short, force=True))
    assert not forced.already_done and forced.folder == first.folder
    assert [line["step"] for line in lines(first.folder)] == [1]
    assert len(json.loads((tmp_path / "detection.json").read_text())) == 1
    (first.folder / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ResumeError, match=r"checkpoint\.pt: cannot be read .*remove it to start over"):
        evaluate_detection(config(encoder, rectangles, tmp_path, **short, force=True))
    write_state(first.folder / "checkpoint.pt", {"trainer": {"step": 1}, "seconds": 1.0})  # as an older version's
    with pytest.raises(ResumeError, match=r"checkpoint\.pt: cannot be read \(of format None.*remove it to start over"):
        evaluate_detection(config(encoder, rectangles, tmp_path, **short, force=True))


@pytest.mark.slow
def test_a_rate_that_is_too_high_is_one_line(encoder: Path, rectangles: Path, tmp_path: Path, capsys: Captured) -> None:
    arguments = ["--encoder", str(encoder), "--data", str(rectangles), "--out", str(tmp_path), "--preset", "small"]
    more = ["--lr", "1e30", "--warmup", "0", "--clip-norm", "1e30", "--precision", "fp32", "--device", "cpu"]
    assert invoke(command, [*arguments, *more]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and "loss is" in error[0] and "try a lower --lr" in error[0]
    assert not (tmp_path / "detection.json").exists()


@pytest.mark.slow
def test_what_a_run_leaves_is_told_with_its_size(
    encoder: Path, rectangles: Path, tmp_path: Path, capsys: Captured
) -> None:
    arguments = ["--encoder", str(encoder), "--data", str(rectangles), "--out", str(tmp_path), "--preset", "small"]
    assert invoke(command, [*arguments, "--steps", "1", "--device", "cpu"]) == 0
    (checkpoint,) = tmp_path.glob("detection-*/checkpoint.pt")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("note: checkpoint.pt (") and line.endswith(f"remove with: rm {checkpoint}")


def test_classes_that_the_test_does_not_share(encoder: Path, rectangles: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(rectangles, root)
    for path in (root / "Annotations").glob("test*.xml"):
        path.write_text(path.read_text().replace("blue", "cyan"))
    with pytest.raises(
        DataError, match=r"'cyan': no object in split trainval.*give classes measurable for the other 1"
    ):
        evaluate_detection(config(encoder, root, tmp_path / "out"))
    with pytest.raises(DataError, match="'blue': no object that is not difficult in split test"):
        evaluate_detection(config(encoder, root, tmp_path / "out", classes=("blue", "red")))


def test_a_test_set_without_an_ap_is_told_before_the_training(
    encoder: Path, rectangles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(rectangles, root)
    for path in (root / "Annotations").glob("test*.xml"):
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))  # the blue one is the first
    monkeypatch.setattr(run_module, "build_detector", None)
    with pytest.raises(DataError, match="'blue': no object that is not difficult in split test"):
        evaluate_detection(config(encoder, root, tmp_path / "out"))


def test_out_of_memory_is_told(
    encoder: Path, rectangles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(self: DetectionStep, batch: Any) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmuch")

    monkeypatch.setattr(DetectionStep, "train_step", full)
    with pytest.raises(TrainingError, match=r"^batch_size 2: does not fit the GPU's memory"):
        evaluate_detection(config(encoder, rectangles, tmp_path))


@pytest.mark.slow
def test_the_encoder_for_detectron2(encoder: Path, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "encoder.pkl"
    assert invoke(command, ["--encoder", str(encoder), "--export-detectron2", str(path)]) == 0
    with open(path, "rb") as file:
        content = pickle.load(file)
    assert content["matching_heuristics"] is True
    state = load_encoder(encoder).module.state_dict()
    assert (content["model"]["stem.conv1.weight"] == state["conv1.weight"].numpy()).all()
    assert (content["model"]["res5.1.conv2.norm.running_var"] == state["layer4.1.bn2.running_var"].numpy()).all()
    capsys.readouterr()
    assert invoke(command, ["--encoder", str(encoder), "--export-detectron2", str(tmp_path / "x.txt")]) == 2
    assert "--export-detectron2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--encoder", "e", "--out", "o"], 2, "'--data'"),
        (["--encoder", "e", "--data", "d"], 2, "'--out'"),
        (["--data", "d", "--out", "o"], 2, "--encoder or --random-init"),
        (["--data", "d", "--out", "o", "--encoder", "e", "--min-sizes", "480,big"], 2, "--min-sizes 480,big"),
        (["--data", "d", "--out", "o", "--encoder", "e", "--preset", "huge"], 2, "--preset"),
        (["--data", "nowhere", "--out", "o", "--random-init", "--arch", "resnet18"], 1, "nowhere: no such folder"),
        (["--export-detectron2", "x.pkl"], 2, "--encoder or --random-init"),
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


def test_a_dry_run_shows_what_the_preset_becomes(capsys: Captured, tmp_path: Path) -> None:
    arguments = [
        "--encoder",
        "e",
        "--data",
        "VOC2007",
        "--data",
        "VOC2012",
        "--out",
        str(tmp_path / "o"),
        "--lr",
        "0.01",
    ]
    assert invoke(command, [*arguments, "--max-size", "1000", "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["data"] == ["VOC2007", "VOC2012"] or len(shown["data"]) == 2
    assert (shown["resolved"]["lr"], shown["resolved"]["steps"]) == (0.01, 24_000)
    assert (shown["resolved"]["max_size"], shown["resolved"]["test_max_size"]) == (1000, 1000)
    assert not (tmp_path / "o").exists()


@pytest.fixture
def mine(rectangles: Path, tmp_path: Path) -> Path:
    """A data set that a test may change."""
    import shutil

    return Path(shutil.copytree(rectangles, tmp_path / "mine"))


@pytest.mark.slow
def test_a_bad_image_is_named_before_the_training_and_the_test_list_is_no_part_of_it(
    encoder: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DetectionStep, "measure_norms", lambda *_: None)
    for name in ("test01", "test03"):
        path = mine / f"JPEGImages/{name}.jpg"
        path.write_bytes(path.read_bytes()[:-60])
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"test01\.jpg: not a readable image.*Main/test\.txt; so are 1 more.*: test03"):
        evaluate_detection(config(encoder, mine, out))
    assert not list(out.glob("detection-*"))
    (mine / "ImageSets/Main/test.txt").write_text("test00\ntest02")
    first = evaluate_detection(config(encoder, mine, out, steps=1))
    (mine / "ImageSets/Main/test.txt").write_text("test00")
    monkeypatch.setattr(DetectionStep, "train_step", None)
    second = evaluate_detection(config(encoder, mine, out, steps=1, test_size=64))
    assert second.folder == first.folder and second.entry["n"] == 1
    assert len(json.loads((out / "detection.json").read_text())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", ["annotation", "pixels"])
def test_a_training_does_not_go_on_with_other_data(
    encoder: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, change: str
) -> None:
    class Stopped(Exception):
        pass

    def stop(run: Any) -> None:
        raise Stopped(run.course.folder)

    monkeypatch.setattr(run_module.Run, "go_on", stop)

    def folder() -> str:
        with pytest.raises(Stopped) as caught:
            evaluate_detection(config(encoder, mine, tmp_path / "out"))
        return str(caught.value)

    first = folder()
    assert folder() == first and "has changed" not in capsys.readouterr().err
    if change == "annotation":
        path = mine / "Annotations/trainval02.xml"
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
        said = "annotation of 1 image changed, e.g. trainval02.jpg"
    else:
        (mine / "JPEGImages/trainval02.jpg").write_bytes((mine / "JPEGImages/trainval03.jpg").read_bytes())
        said = "1 image changed, e.g. trainval02.jpg"
    assert folder() != first
    assert f"mine, split trainval, has changed since it was measured here: {said}" in capsys.readouterr().err


def test_classes_that_can_be_measured(encoder: Path, mine: Path, tmp_path: Path, capsys: Captured) -> None:
    for path in (mine / "Annotations").glob("test*.xml"):
        path.write_text(path.read_text().replace("blue", "cyan"))
    splits = run_module.read_splits(config(encoder, mine, tmp_path / "out", classes=("measurable",)), silent=False)
    assert [split.classes for split in splits] == [("red",), ("red",)]
    assert all((image.labels == 0).all() for split in splits for image in split.images)
    assert (
        "2 of 3 classes cannot be measured ('blue': no object that is not difficult in split test"
        in capsys.readouterr().err
    )
