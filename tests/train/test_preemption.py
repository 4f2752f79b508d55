"""Signals of a scheduler: a checkpoint between two steps, the right exit status, and a run that goes on as if nothing was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from genrep.files import locked_folder
from genrep.runs.signals import requests

MakeDataset = Callable[..., Path]
OPTIONS = ["--batch-size", "8", "--lr", "1", "--device", "cpu", "--precision", "fp32", "--log-every", "4"]


Process = subprocess.Popen[str] | Forked


def start(data: Path, out: Path, *more: str, processes: int = 1, anew: bool = False) -> Process:
    """With one process it is forked, unless it shall be started ``anew``."""
    options = ["--data", str(data), "--out", str(out), *OPTIONS, *more]
    if processes == 1 and not anew:
        return Forked("genrep.train", *options)
    module = ["-m", "genrep.train", *options]
    if processes > 1:
        module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        [sys.executable, *module], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def lines(out: Path) -> list[dict[str, Any]]:
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def curve(out: Path) -> list[tuple[Any, ...]]:
    return [(line["step"], line["epoch"], line["loss"], line["uniformity"]) for line in lines(out)]


def finish(process: Process) -> tuple[int, str]:
    _, error = process.communicate(timeout=120)
    return process.returncode, error


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_to_go_on_from_within_the_epoch(dataset: MakeDataset, tmp_path: Path) -> None:
    data = dataset(count=400, per_shard=100)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps = ("--steps", "60")
    assert finish(start(data, whole, *steps))[0] == 0
    process = start(data, cut, *steps, anew=True)
    wait_for(lambda: len(lines(cut)) >= 2, process)
    assert not (cut / "checkpoint.pt").exists()  # none was due before the end of the epoch
    process.send_signal(signal.SIGTERM)
    status, error = finish(process)
    assert (status, error.splitlines()[-1]) == (143, "Error: genrep-train: terminated")
    assert (cut / "checkpoint.pt").exists()
    status, error = finish(start(data, cut, *steps))
    assert status == 0 and "resuming after step " in error
    assert curve(cut) == curve(whole)


@pytest.mark.slow
def test_a_signal_that_comes_twice_is_one(dataset: MakeDataset, tmp_path: Path) -> None:
    """A scheduler signals the launcher and its processes, and the launcher passes its own on."""
    process = start(dataset(count=400, per_shard=100), tmp_path, "--steps", "60")
    wait_for(lambda: len(lines(tmp_path)) >= 1, process)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    status, error = finish(process)
    assert (status, error.splitlines()[-1]) == (143, "Error: genrep-train: terminated")
    assert (tmp_path / "checkpoint.pt").exists()


def test_after_a_while_another_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrep.runs.signals.ECHO", 0.0)
    ended = []
    before = signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    try:
        with requests() as asked:
            signal.raise_signal(signal.SIGTERM)
            assert asked.stop and not ended
            signal.raise_signal(signal.SIGTERM)
            assert ended
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_sigusr1_writes_a_checkpoint_and_the_run_goes_on(dataset: MakeDataset, tmp_path: Path) -> None:
    process = start(dataset(count=400, per_shard=100), tmp_path, "--steps", "45")
    wait_for(lambda: len(lines(tmp_path)) >= 1, process)
    process.send_signal(signal.SIGUSR1)
    wait_for((tmp_path / "checkpoint.pt").exists, process)
    assert finish(process)[0] == 0
    assert (tmp_path / "encoder.safetensors").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_checkpoint_that_a_minute_asked_for(dataset: MakeDataset, tmp_path: Path) -> None:
    data, steps = dataset(count=400, per_shard=100), ("--steps", "45", "--checkpoint-minutes", "0.02")
    process = start(data, tmp_path, *steps)
    wait_for((tmp_path / "checkpoint.pt").exists, process)
    process.kill()
    process.communicate()
    status, error = finish(start(data, tmp_path, *steps))
    assert status == 0 and "resuming after step " in error


@pytest.fixture(scope="module")
def two(dataset: MakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    out = tmp_path_factory.mktemp("runs") / "two"
    process = start(dataset(), out, "--epochs", "4", processes=2)
    status, error = finish(process)
    assert status == 0, error
    return out


@pytest.mark.slow
def test_two_processes_write_one_run(two: Path) -> None:
    names = {path.name for path in two.iterdir()} - {"tensorboard"}
    assert names == {"checkpoint.pt", "config.json", "curves.png", "encoder.safetensors", "metrics.jsonl"}
    assert [line["step"] for line in lines(two)] == [4, 5, 8, 10, 12, 15, 16, 20]
    assert json.loads((two / "config.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_a_run_of_two_goes_on_as_one(dataset: MakeDataset, two: Path, tmp_path: Path) -> None:
    """The cursor is the run's: the samples not yet seen come, whatever the number of processes."""
    process = start(dataset(count=400, per_shard=100), tmp_path, "--steps", "60", processes=2)
    wait_for(lambda: len(lines(tmp_path)) >= 2, process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] != 0
    assert (tmp_path / "checkpoint.pt").exists()
    status, error = finish(start(dataset(count=400, per_shard=100), tmp_path, "--steps", "60"))
    assert status == 0 and "resuming after step " in error
    assert lines(tmp_path)[-1]["step"] == 60


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_end_by_themselves(dataset: MakeDataset, tmp_path: Path) -> None:
    """Nobody would end them, and they would hold the folder until the last step."""
    launcher = start(dataset(count=400, per_shard=100), tmp_path, "--steps", "100000", processes=2)
    wait_for(lambda: len(lines(tmp_path)) >= 1, launcher)
    launcher.kill()
    _, error = launcher.communicate(timeout=120)  # its pipes are closed by the last of its processes
    assert "the launcher of this run's processes has ended; they stop after step " in error
    assert (tmp_path / "checkpoint.pt").exists() and not (tmp_path / "encoder.safetensors").exists()
    with locked_folder(tmp_path):
        pass


@pytest.mark.slow
def test_a_fault_in_two_processes_ends_both_and_says_why(dataset: MakeDataset, two: Path) -> None:
    status, error = finish(start(dataset(), two, "--epochs", "4", "--temperature", "0.5", processes=2))
    assert status != 0
    ours = [line for line in error.splitlines() if line.startswith("Error: genrep-train: ")]
    assert any("holds another run (temperature 0.1 there, 0.5 asked for)" in line for line in ours), error
    assert len(ours) <= 2 and "genrep/cli.py" not in error  # torchrun may end the second before it has said its own
