"""The command: exit statuses, one line per fault, the resolved settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.train.cli import command

MakeDataset = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def test_dry_run_prints_the_resolved_settings_and_writes_nothing(
    dataset: MakeDataset, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    assert invoke(command, ["--data", str(dataset()), "--out", str(out), "--batch-size", "8", "--dry-run"]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert (settings["positive"], settings["crop"], settings["total_steps"]) == ("stored", 16, 100)
    assert not out.exists()


def test_a_run_ends_with_a_line_that_names_the_encoder(dataset: MakeDataset, tmp_path: Path, capsys: Captured) -> None:
    arguments = ["--data", str(dataset()), "--out", str(tmp_path), "--batch-size", "16", "--steps", "2"]
    assert invoke(command, arguments) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{tmp_path}/encoder.safetensors: resnet18 (imagenet stem, 16 px), 2 steps, final loss ")
    assert line.endswith(" images/s\n")
    assert invoke(command, arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path}/encoder.safetensors: finished already, nothing to do\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--data", "nowhere", "--out", "x"], 1, "nowhere"),
        (["--out", "x"], 2, "--data"),
        (["--data", "x", "--out", "x", "--arch", "vit"], 2, "--arch"),
        (["--data", "x", "--out", "x", "--batch-size", "1"], 2, "--batch-size"),
        (["--data", "x", "--out", "x", "--epochs", "1", "--steps", "1"], 2, "--epochs 1 and --steps 1"),
        (["--data", "x", "--out", "x", "--lr", "nan"], 2, "--lr"),
    ],
)
def test_faults_are_one_line(arguments: list[str], status: int, message: str, capsys: Captured) -> None:
    assert invoke(command, arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_an_unwritable_out(dataset: MakeDataset, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "run")
    assert invoke(command, ["--data", str(dataset()), "--out", out, "--batch-size", "8"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
