"""``reproduce --download``: what the tasks read is fetched before they begin, and no task is another for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torchvision

from genrep.cli import invoke
from genrep.papers.commands import reproduce_command as command
from genrep.papers.reproduce import run
from genrep.papers.tasks.scheduling import Outcome, Scheduler

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was begun, in place of doing it: the tasks' names."""
    found: list[list[str]] = []

    def note(self: Scheduler, goals: list[Any]) -> Outcome:
        found.append([goal.id for goal in goals])
        return Outcome(failed={})

    monkeypatch.setattr(Scheduler, "run", note)
    return found


def call(root: Path, out: Path, *more: str, scale: str = "cpu") -> int:
    where = ["--root", str(root), "--out", str(out), "--device", "cpu"]
    return invoke(command, ["genrep-table1", "--rows", "gauss", "--scale", scale, *where, *more])


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["tiny", "cpu", "small"])
def test_the_set_is_fetched_once_before_the_tasks_begin(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[list[str]], scale: str
) -> None:
    asked = []

    def download(self: Any) -> None:
        assert len(begun) == 1  # the call without it
        asked.append(self.root)
        shutil.copytree(root / "FashionMNIST/raw", self.raw_folder)

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", download)
    data = tmp_path / "data"
    assert call(data, tmp_path / "out", scale=scale) == 0 and not asked
    assert call(data, tmp_path / "out", "--download", "--dry-run", scale=scale) == 0 and not asked
    assert call(data, tmp_path / "out", "--download", scale=scale) == 0
    assert call(data, tmp_path / "out", "--download", scale=scale) == 0
    assert asked == [data] and (data / "FashionMNIST/raw/t10k-labels-idx1-ubyte").is_file()
    assert begun[0] == begun[1] == begun[2] != []


def test_a_set_that_cannot_be_fetched_is_a_line_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[list[str]], capsys: Captured
) -> None:
    def download(self: Any) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", download)
    assert call(tmp_path / "data", tmp_path / "out", "--download") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "dataset fashion_mnist under" in error and "Error downloading" in error
    assert begun == []


def test_what_nobody_can_download_is_left_to_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[list[str]]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("genrep.papers.reproduce.run.load_pair", lambda name, root, download: asked.append(name))
    where = ["--scale", "full", "--root", str(tmp_path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    plan = run.plan_of(run.ReproduceConfig(table="cop-gen-table2", out=tmp_path, scale="full"))
    assert any("--suite" in goal.arguments for goal in plan.goals)
    assert invoke(command, ["cop-gen-table2", *where, "--download"]) == 0
    assert asked == ["caltech101", "cifar10", "cifar100", "flowers102", "food101", "pets", "sun397_80_20"]
    assert len(begun) == 1
