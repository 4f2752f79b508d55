"""The commands: exit statuses, one line per fault, tables that never mix protocols."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.evaluate.cli import group

Captured = pytest.CaptureFixture[str]


def probe(encoder: Path, images: Path, out: Path, *more: str) -> list[str]:
    arguments = ["--encoder", str(encoder), "--dataset", str(images), "--out", str(out), "--device", "cpu", *more]
    return ["linear", *arguments]


def test_a_line_with_number_and_protocol_then_a_table(
    encoder: Path, images: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert invoke(group, probe(encoder, images, tmp_path / "one", "--epochs", "2")) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    for part in ("linear_top1_2ep", "% of 15 test images", "last of 2 epochs", "best epoch", "one/linear.json"):
        assert part in line
    assert invoke(group, probe(encoder, images, tmp_path / "one", "--epochs", "2")) == 0
    assert "done before" in capsys.readouterr().out
    random = ["linear", "--random-init", "--arch", "resnet18", "--dataset", str(images), "--out", str(tmp_path / "two")]
    assert invoke(group, [*random, "--epochs", "2", "--device", "cpu"]) == 0
    assert invoke(group, probe(encoder, images, tmp_path / "three", "--epochs", "1")) == 0
    capsys.readouterr()
    folders = [f"mine={tmp_path / 'one'}", str(tmp_path / "two"), str(tmp_path / "three")]
    assert invoke(group, ["table", *folders]) == 0
    first, second = capsys.readouterr().out.split("\n\n")  # two protocols, two tables
    assert "linear_top1_2ep" in first and "mine  resnet18, imagenet stem" in first and "random init" in first
    assert "linear_top1_1ep" in second and "three" in second and "mine" not in second
    assert "  epochs: 2" in first


def test_dry_run(tmp_path: Path, capsys: Captured) -> None:
    assert invoke(group, probe(Path("run"), Path("data"), tmp_path / "out", "--dry-run")) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 60
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["linear", "--dataset", "x", "--out", "y"], 2, "--encoder or --random-init"),
        (["linear", "--encoder", "nowhere", "--dataset", "x", "--out", "y"], 1, "nowhere: no such encoder"),
        (["linear", "--encoder", "z", "--out", "y"], 2, "--dataset"),
        (["linear", "--encoder", "z", "--dataset", "x", "--out", "y", "--epochs", "0"], 2, "--epochs"),
        (["table", "nowhere"], 1, "nowhere: no results"),
        (["table"], 2, "DIR"),
        (["knn"], 2, "knn"),
    ],
)
def test_faults_are_one_line(arguments: list[str], status: int, message: str, capsys: Captured) -> None:
    assert invoke(group, arguments) == status
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
