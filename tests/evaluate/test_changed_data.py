"""Results, features and checkpoints know their images: mended labels or other pictures never get the old number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep.cli import invoke
from genrep.evaluate import frozen, protocol
from genrep.papers.cli import group
from genrep.runs.checkpoints import Checkpoints

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def mine(images: Path, tmp_path: Path) -> Path:
    """The fixture's images as a folder that a test may change."""
    return Path(shutil.copytree(images, tmp_path / "mine"))


def call(encoder: Path, data: Path, out: Path, verb: str, *more: str) -> int:
    common = ["--encoder", str(encoder), "--dataset", str(data), "--out", str(out), "--device", "cpu"]
    options = {"linear": ["--epochs", "40"], "knn": ["--k", "3"], "finetune": ["--epochs", "1", "--labels", "100%"]}
    return invoke(group, [verb, *common, *options[verb], *more])


def results(out: Path, verb: str) -> list[dict[str, Any]]:
    found = json.loads((out / f"{verb}.json").read_text())
    assert isinstance(found, list)
    return found


def swap_labels(root: Path) -> None:
    for a, b in (("dark", "x"), ("light", "dark"), ("x", "light")):
        (root / "test" / a).rename(root / "test" / b)


def other_pixels(root: Path) -> None:
    """Of the same names; a bitmap of the same size, too."""
    path = root / "train/dark/3.png"
    size = path.stat().st_size
    for seed in range(1000):
        pixels = np.random.RandomState(seed).normal(50, 10, (16, 16, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        if path.stat().st_size == size:
            return
    raise AssertionError("no picture of the same size was found")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap_labels, "its test/ folder, has changed since it was measured here: labels of 10 images changed"),
        (other_pixels, "its train/ folder, has changed since it was measured here: 1 image changed, e.g. dark/3.png"),
    ],
    ids=["labels", "pixels"],
)
@pytest.mark.parametrize("verb", ["linear", "knn"])
def test_other_data_is_another_entry_and_what_changed_is_said(
    encoder: Path, mine: Path, tmp_path: Path, capsys: Captured, verb: str, change: Callable[[Path], None], said: str
) -> None:
    out = tmp_path / "out"
    assert call(encoder, mine, out, verb) == 0
    assert call(encoder, mine, out, verb) == 0
    assert "done before" in capsys.readouterr().out
    change(mine)
    assert call(encoder, mine, out, verb) == 0
    told = capsys.readouterr()
    assert said in told.err and f"{verb}.json: holds this result of other images or labels" in told.err
    assert "done before" not in told.out
    first, second = results(out, verb)
    assert call(encoder, mine, tmp_path / "fresh", verb) == 0
    assert results(tmp_path / "fresh", verb)[0]["value"] == second["value"]
    if change is swap_labels:
        assert first["value"] > 80 > second["value"]


@pytest.mark.slow
def test_the_same_images_elsewhere_are_the_same_data(
    encoder: Path, mine: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    assert call(encoder, mine, out, "knn") == 0
    shutil.copytree(mine, tmp_path / "copy/mine")
    assert call(encoder, tmp_path / "copy/mine", out, "knn") == 0
    told = capsys.readouterr()
    assert "done before" in told.out
    assert all("is only needed to measure again" in line for line in told.err.splitlines())  # and nothing of changes


@pytest.mark.slow
def test_features_are_of_contents(encoder: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, computed = tmp_path / "out", []
    compute = frozen.whole_batches
    monkeypatch.setattr(
        frozen, "whole_batches", lambda data, *more: (computed.append(data.split), compute(data, *more))[1]
    )
    assert call(encoder, mine, out, "linear") == 0
    assert computed == ["its test/ folder", "its train/ folder"]
    (mine / "train/dark/3.png").rename(mine / "train/light/0-was-dark.png")  # a mended label moves a picture
    assert call(encoder, mine, out, "linear") == 0
    assert computed[2:] == ["its train/ folder"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["linear", "finetune"])
def test_a_checkpoint_of_other_data_is_not_used(
    encoder: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    out, seen = tmp_path / "out", []

    class Stopped(Exception):
        pass

    def read(self: Checkpoints, device: Any) -> None:
        seen.append(self.path.name)
        raise Stopped

    monkeypatch.setattr(Checkpoints, "open", read)
    more = ["--preset", "hl", "--size", "16"] if verb == "linear" else []
    assert call(encoder, mine, out, verb, *more) == 1
    assert call(encoder, mine, out, verb, *more) == 1
    swap_labels(mine)
    assert call(encoder, mine, out, verb, *more) == 1
    assert seen[0] == seen[1] != seen[2]


def test_a_result_without_digests_is_read_and_told(encoder: Path, mine: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert call(encoder, mine, out, "knn") == 0
    (entry,) = results(out, "knn")
    for name in ("train_sha256", "test_sha256"):
        assert len(entry["protocol"].pop(name)) == 64
    (out / "knn.json").write_text(json.dumps([entry]))
    capsys.readouterr()
    assert call(encoder, mine, out, "knn") == 0
    assert (
        "knn.json: holds this result without train_sha256 and test_sha256: an earlier version"
        in capsys.readouterr().err
    )
    assert results(out, "knn")[0] == entry and len(results(out, "knn")) == 2


@pytest.mark.slow
def test_tables_and_reports_keep_them_apart_and_say_so(
    encoder: Path, mine: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert call(encoder, mine, tmp_path / "a", "knn") == 0
    swap_labels(mine)
    assert call(encoder, mine, tmp_path / "b", "knn") == 0
    capsys.readouterr()
    rows = [f"row={tmp_path / name}" for name in "ab"]
    assert invoke(group, ["table", *rows]) == 0
    table = capsys.readouterr().out
    assert table.count("mine, knn_top1") == 2 and "mean ± std" not in table
    assert "mine: 2 tables by one protocol, of different images or labels" in table
    assert invoke(group, ["report", *rows, "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report/report.md").read_text()
    values = {results(tmp_path / name, "knn")[0]["value"] for name in "ab"}
    assert all(f"| row | {value:.2f} |" in page for value in values)
    assert "mine, nearest neighbours: 2 tables by one protocol, of different images or labels" in page
    assert "mine, nearest neighbours (test_sha256 " in page  # the titles tell them apart


@pytest.mark.parametrize("verb", ["linear", "knn", "finetune"])
@pytest.mark.parametrize("place", ["file", "file/inner"])
def test_an_out_that_cannot_be_is_told_before_images_are_read(
    encoder: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, verb: str, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(protocol, "load_pair", None)
    assert call(encoder, mine, tmp_path / place, verb) == 1
    assert f"--out {tmp_path / place}: {tmp_path / 'file'} is not a folder" in capsys.readouterr().err
