"""The commands: exit statuses, one line per fault, tables that never mix protocols."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.papers.cli import group

Captured = pytest.CaptureFixture[str]


def probe(encoder: Path, images: Path, out: Path, *more: str) -> list[str]:
    arguments = ["--encoder", str(encoder), "--dataset", str(images), "--out", str(out), "--device", "cpu"]
    return ["linear", *arguments, "--feature-batch", "16", *more]


@pytest.mark.slow
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
    assert invoke(group, [*random, "--epochs", "2", "--device", "cpu", "--size", "16", "--feature-batch", "16"]) == 0
    assert invoke(group, probe(encoder, images, tmp_path / "three", "--epochs", "1")) == 0
    capsys.readouterr()
    folders = [f"mine={tmp_path / 'one'}", str(tmp_path / "two"), str(tmp_path / "three")]
    assert invoke(group, ["table", *folders]) == 0
    first, second = capsys.readouterr().out.split("\n\n")  # two protocols, two tables
    assert "linear_top1_2ep" in first and "mine  resnet18, imagenet stem" in first and "random init" in first
    assert "linear_top1_1ep" in second and "three" in second and "mine" not in second
    assert "  epochs: 2" in first


def test_a_table_of_few_classes_has_no_top5(encoder: Path, images: Path, tmp_path: Path, capsys: Captured) -> None:
    knn = [
        "knn",
        "--encoder",
        str(encoder),
        "--dataset",
        str(images),
        "--out",
        str(tmp_path),
        "--device",
        "cpu",
        "--k",
        "3",
    ]
    assert invoke(group, knn) == 0
    capsys.readouterr()
    assert invoke(group, ["table", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "knn_top1" in shown and "top-5" not in shown


def test_dry_run(tmp_path: Path, capsys: Captured) -> None:
    assert invoke(group, probe(Path("run"), Path("data"), tmp_path / "out", "--dry-run")) == 0
    assert json.loads(capsys.readouterr().out)["preset"] == "frozen"
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
        (["moco"], 2, "moco"),
        (["linear", "--encoder", "z", "--dataset", "x", "--out", "y", "--seed", "0,a"], 2, "wanted numbers like 0"),
        (["finetune", "--encoder", "z", "--dataset", "x", "--out", "y"], 2, "--labels or --subset"),
        (["finetune", "--encoder", "z", "--dataset", "x", "--out", "y", "--labels", "1"], 2, "--labels '1': wanted 1%"),
        (["transfer", "--encoder", "z", "--suite", "moco", "--root", "x", "--out", "y"], 2, "--suite"),
    ],
)
def test_faults_are_one_line(arguments: list[str], status: int, message: str, capsys: Captured) -> None:
    assert invoke(group, arguments) == status
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_every_command_is_there_and_its_module_is_imported_only_when_asked_for(capsys: Captured) -> None:
    assert invoke(group, ["--help"]) == 0
    shown = capsys.readouterr().out
    for name in group.summaries:
        assert f"  {name} " in shown
    assert set(group.summaries) == {
        *(
            "linear",
            "knn",
            "few-label",
            "voc07",
            "finetune",
            "detection",
            "segmentation",
            "transfer",
            "export",
            "report",
            "reproduce",
            "source",
            "table",
        )
    }


def test_several_seeds_have_a_mean_in_line_and_table(
    encoder: Path, images: Path, tmp_path: Path, capsys: Captured
) -> None:
    more = ("--epochs", "1", "--lr", "0.01", "--lr-grid", "0.5", "--seed", "0,1")
    assert invoke(group, probe(encoder, images, tmp_path / "one", *more)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].startswith("mean of 2 seeds ") and "±" in lines[2]
    assert "lr 0.5: " in lines[0]
    assert invoke(group, ["table", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    assert any("±" in line and line.endswith("mean ± std") for line in shown.splitlines())
    (tmp_path / "one").rename(tmp_path / "std=0.2")  # a folder called so, not a name with a folder
    assert invoke(group, ["table", str(tmp_path / "std=0.2")]) == 0
    assert capsys.readouterr().out.replace("std=0.2", "one").split() == shown.split()
