"""What others read of a run's folder: settings and curves, of a version."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from genrep.errors import DataError
from genrep.train import TrainConfig, read_run
from genrep.train.contract import CIRCUMSTANCES, FREE, RUN_VERSION, VERSION
from genrep.train.engine.training_plan import TrainingPlan

MACHINES = {"versions", "threads"}  # beside the plan in config.json


def write(folder: Path, settings: object, lines: str = "") -> Path:
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "metrics.jsonl").write_text(lines)
    return folder


@pytest.mark.parametrize("more", [{}, {VERSION: RUN_VERSION}])
def test_a_run_without_a_version_is_one_of_the_first(more: dict[str, int], tmp_path: Path) -> None:
    settings = {**more, "arch": "resnet18", "seed": 3, "out": "x", "threads": 2}
    run = read_run(write(tmp_path, settings, '{"step": 10, "loss": 2.5}\n{"step": 2'))
    assert run.settings == settings and run.method == {"arch": "resnet18"}
    assert run.lines == ({"step": 10, "loss": 2.5},)


@pytest.mark.parametrize(
    ("settings", "lines", "message"),
    [
        ({VERSION: 2}, "", r"config\.json: version 2, wanted 1; a newer genrep wrote it: upgrade to read it"),
        ({VERSION: "x\x1b"}, "", r"config\.json: version 'x\\x1b', wanted 1"),
        ([], "", r"config\.json: wanted a JSON object, found list"),
        ({}, "no lines", r"metrics\.jsonl: no line with a step"),
    ],
)
def test_what_is_no_run_of_ours_is_one_line(settings: object, lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_run(write(tmp_path, settings, lines))
    assert "\n" not in str(error.value)


def test_a_folder_of_something_else_has_neither(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert run.settings is None and run.lines == () and run.method == {}


def test_what_makes_no_other_method_is_what_a_run_writes() -> None:
    """A setting that is renamed is missed here, before a report draws curves over its old name."""
    written = {one.name for kind in (TrainConfig, TrainingPlan) for one in fields(kind)} | MACHINES | {VERSION}
    assert {*FREE, *CIRCUMSTANCES} <= written
    assert not {*FREE} & {*CIRCUMSTANCES}


def test_reading_a_run_waits_for_no_torch(tmp_path: Path) -> None:
    folder = write(tmp_path, {"arch": "resnet18"}, '{"step": 10}\n')
    code = (
        "import sys, pathlib, genrep.train; genrep.train.read_run(pathlib.Path(sys.argv[1])); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
