"""The command: exit statuses, one line per fault, the resolved settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.slow
def test_a_run_ends_with_a_line_that_names_the_encoder(dataset: MakeDataset, tmp_path: Path, capsys: Captured) -> None:
    arguments = ["--data", str(dataset()), "--out", str(tmp_path), "--batch-size", "16", "--steps", "2"]
    assert invoke(command, arguments) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{tmp_path}/encoder.safetensors: resnet18 (imagenet stem, 16 px), 2 steps, final loss ")
    assert line.endswith(" images/s\n")
    assert invoke(command, arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path}/encoder.safetensors: already finished; nothing to do\n"


def settings_of(arguments: list[str], capsys: Captured) -> dict[str, Any]:
    assert invoke(command, [*arguments, "--out", "x", "--dry-run"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_preset_fills_in_what_the_command_line_does_not_give(dataset: MakeDataset, capsys: Captured) -> None:
    data = ["--data", str(dataset()), "--batch-size", "8"]
    row = settings_of(["--preset", "hl-simsiam-stylegan2", *data], capsys)
    assert (row["objective"], row["zero_init_residual"], row["lr_floor"], row["epochs"]) == ("simsiam", True, 0.1, 100)
    assert (row["batch_size"], row["lr_scaled"]) == (8, pytest.approx(0.05 * 8 / 256))
    short = settings_of(["--preset", "hl-simsiam-stylegan2", *data, "--steps", "7", "--no-zero-init-residual"], capsys)
    assert (short["total_steps"], short["epochs"], short["zero_init_residual"]) == (7, None, False)


def test_a_preset_may_be_a_toml_file(dataset: MakeDataset, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('objective = "dcl"\ntemperature = 0.3\nbatch_size = 4\n')
    found = settings_of(["--preset", str(path), "--data", str(dataset())], capsys)
    assert (found["objective"], found["temperature"], found["batch_size"]) == ("dcl", 0.3, 4)


def test_presets_that_cannot_be_read_are_one_line(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.toml"
    for text, message in (("temprature = 1\n", "unknown setting 'temprature'"), ("x = ", "cannot be read")):
        path.write_text(text)
        assert invoke(command, ["--preset", str(path), "--data", "x", "--out", "x"]) == 2
        assert message in capsys.readouterr().err
    assert invoke(command, ["--preset", "nowhere.toml", "--data", "x", "--out", "x"]) == 2
    assert "nowhere.toml: cannot be read (missing)" in capsys.readouterr().err
    for text, message in (
        ('epochs = "ten"', "epochs is 'ten'; wanted int"),
        ("epochs = 2.5", "epochs is 2.5; wanted int"),
        ('zero_init_residual = "false"', "zero_init_residual is 'false'; wanted bool"),
        ("lr = true", "lr is True; wanted float"),
        ("data = 3", "data is 3; wanted"),
    ):
        path.write_text(text)
        assert invoke(command, ["--preset", str(path), "--data", "x", "--out", "x"]) == 2
        assert message in capsys.readouterr().err
    path.write_text('arch = "vit"\n')
    assert invoke(command, ["--preset", str(path), "--data", "x", "--out", "x"]) == 2
    assert "--arch 'vit'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--data", "nowhere", "--out", "x"], 1, "nowhere"),
        (["--out", "x"], 2, "--data"),
        (["--data", "x", "--out", "x", "--arch", "vit"], 2, "--arch"),
        (["--data", "x", "--out", "x", "--batch-size", "1"], 2, "--batch-size"),
        (["--data", "x", "--out", "x", "--epochs", "1", "--steps", "1"], 2, "--epochs 1 and --steps 1"),
        (["--data", "x", "--out", "x", "--lr", "nan"], 2, "--lr"),
        (["--preset", "genrep", "--data", "x", "--out", "x"], 2, "--preset 'genrep': wanted one of genrep-in1k"),
        (["--data", "x", "--out", "x", "--shuffle-window", "some"], 2, "--shuffle-window 'some'"),
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--classes", "0-3"], "--classes: requires --online"),
        (["--num-positives", "4"], "--num-positives: requires --online"),
        (["--weights", "x.pkl"], "--weights x.pkl: requires --gen"),
        (["--truncation", "0.5"], "--truncation 0.5: requires --gen"),
        (["--knn-data", "fashion_mnist"], "--knn-data fashion_mnist: requires --knn-every"),
        (["--knn-root", "x"], "--knn-root x: requires --knn-data"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(given: list[str], message: str, capsys: Captured) -> None:
    assert invoke(command, ["--data", "d", "--out", "x", *given]) == 2
    assert message in capsys.readouterr().err
