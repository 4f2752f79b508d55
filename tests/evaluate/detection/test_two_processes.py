"""Two processes of torchrun train one detector, which is the one that a process alone trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genrep.evaluate.detection import config as presets
from genrep.evaluate.detection.config import DetectionConfig
from genrep.evaluate.detection.run import evaluate_detection
from genrep.runs.checkpoints import read_state

# All regions are taken and all images are of one size, so that no draw depends on which process has which image.
SETTINGS: dict[str, Any] = {
    "steps": 2,
    "warmup": 0,
    "min_sizes": (72,),
    "rois": 256,
    "clip_norm": None,
    "precise_bn": 0,
}
COMMAND = """
from genrep.evaluate.cli import main
from genrep.evaluate.detection.config import PRESETS, DetectionPreset

PRESETS["small"] = DetectionPreset(**{!r})
main()
"""


def config(encoder: Path, data: Path, out: Path) -> DetectionConfig:
    return DetectionConfig(
        encoder=encoder, data=(data,), out=out, preset="small", norm="frozen", workers=1, device="cpu", log_every=1
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def momenta(folder: Path) -> torch.Tensor:
    """Of the optimiser at the end: the sum of all gradients, the last ones above all."""
    state = read_state(folder / "checkpoint.pt", torch.device("cpu"))["trainer"]["optimiser"]["state"]
    return torch.cat([found["momentum_buffer"].flatten() for found in state.values()])


@pytest.mark.slow
def test_two_processes_train_what_one_trains(
    encoder: Path, rectangles: Path, tmp_path: Path, tiny: presets.DetectionPreset, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = replace(tiny, **SETTINGS)
    monkeypatch.setitem(presets.PRESETS, "small", preset)
    one = evaluate_detection(config(encoder, rectangles, tmp_path / "one"))
    (tmp_path / "command.py").write_text(COMMAND.format(asdict(preset)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "command.py")]
    options = [
        "--encoder",
        str(encoder),
        "--data",
        str(rectangles),
        "--out",
        str(tmp_path / "two"),
        "--preset",
        "small",
    ]
    more = ["--norm", "frozen", "--workers", "1", "--device", "cpu", "--log-every", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    run = subprocess.run(
        [sys.executable, *torchrun, "detection", *options, *more], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr

    two = evaluate_detection(config(encoder, rectangles, tmp_path / "two"))
    assert two.already_done and (two.entry["processes"], one.entry["processes"]) == (2, 1)
    assert two.entry.keys() == one.entry.keys() and two.entry["protocol"] == one.entry["protocol"]
    assert two.folder is not None and one.folder is not None and two.folder.name == one.folder.name
    names = {path.name for path in one.folder.iterdir()}
    assert names == {path.name for path in two.folder.iterdir()} == {"checkpoint.pt", "config.json", "metrics.jsonl"}
    assert (two.folder / "config.json").read_bytes() == (one.folder / "config.json").read_bytes()
    for alone, together in zip(lines(one.folder), lines(two.folder), strict=True):
        assert alone.keys() == together.keys() and alone["step"] == together["step"]
        assert together["loss"] == pytest.approx(alone["loss"], rel=2e-3)
    gradients = [momenta(folder) for folder in (one.folder, two.folder)]
    # Not to the bit: a loss is a mean over a process's regions, of which images have more and fewer. Of one image alone: .4.
    assert torch.linalg.vector_norm(gradients[1] - gradients[0]) < 0.2 * torch.linalg.vector_norm(gradients[0])
