"""Suites: what is there is measured by the suite's protocol, what is not is told, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision

from genrep.cli import invoke
from genrep.evaluate import TransferConfig, evaluate_transfer
from genrep.evaluate.linear.config import PRESETS
from genrep.evaluate.transfer import SUITES
from genrep.images.sets import DATASETS
from genrep.papers.cli import group


@pytest.fixture
def root(tmp_path: Path, images: Path) -> Path:
    """Two of HL's datasets: Birdsnap as a folder, and DTD in its own layout."""
    base = tmp_path / "root"
    shutil.copytree(images, base / "birdsnap")
    for path in sorted((images / "train").glob("*/*.png")):
        split = ("train", "val", "test")[int(path.stem) % 3]
        name = f"{path.parent.name}/{path.parent.name}_{path.stem}.png"
        target = base / "dtd/dtd/images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        lists = base / "dtd/dtd/labels"
        lists.mkdir(exist_ok=True)
        with open(lists / f"{split}1.txt", "a") as file:
            file.write(f"{name}\n")
    return base


def arguments(encoder: Path, root: Path, out: Path) -> list[str]:
    options = ["--encoder", str(encoder), "--suite", "hl", "--root", str(root), "--out", str(out)]
    return ["transfer", *options, "--epochs", "1", "--size", "16", "--seed", "0,1", "--device", "cpu"]


@pytest.mark.slow
def test_a_table_of_what_is_there(
    encoder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(group, arguments(encoder, root, tmp_path / "out")) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[1].split()[:2] == ["birdsnap", "top-1"] and "±" in lines[1] and lines[2].startswith("dtd")
    assert lines[3].startswith("mean of 2")
    assert sum(line.startswith("skipped: dataset ") for line in lines) == 7
    assert "dataset food101: not found as" in shown and "--download" in shown
    entries = json.loads((tmp_path / "out/transfer.json").read_text())
    assert [(e["dataset"], e["seed"]) for e in entries] == [("birdsnap", 0), ("birdsnap", 1), ("dtd", 0), ("dtd", 1)]
    assert {e["protocol"]["preset"] for e in entries} == {"hl"}
    assert float(lines[1].split()[2]) == pytest.approx(np.mean([e["value"] for e in entries[:2]]), abs=0.006)
    assert invoke(group, arguments(encoder, root, tmp_path / "out")) == 0
    assert capsys.readouterr().out == shown
    assert json.loads((tmp_path / "out/transfer.json").read_text()) == entries  # seconds too: nothing was done again
    assert invoke(group, ["table", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("protocol:") == 2


@pytest.mark.slow
def test_nothing_there_is_an_error(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(group, arguments(encoder, tmp_path / "nowhere", tmp_path / "out")) == 1
    assert "holds none of the suite's datasets (birdsnap, " in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_dataset_is_not_skipped(
    encoder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "dtd/dtd/images/dark/dark_2.png").write_bytes(b"x")
    assert invoke(group, arguments(encoder, root, tmp_path / "out")) == 1
    assert "dark_2.png: not a readable image" in capsys.readouterr().err


def test_suites_name_datasets_and_presets_that_exist() -> None:
    for suite in SUITES.values():
        assert set(suite.datasets) <= set(DATASETS) and suite.preset in PRESETS


def test_settings_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match=r"^suite 'moco': wanted one of cop-gen, hl"):
        TransferConfig(suite="moco", root=Path("x"), out=Path("y"), encoder="z")
    with pytest.raises(ValueError, match=r"^epochs: preset simclr-lbfgs does not train by SGD"):
        TransferConfig(suite="hl", root=Path("x"), out=Path("y"), encoder="z", preset="simclr-lbfgs", epochs=3)
    with pytest.raises(ValueError, match=r"^encoder or random_init"):
        TransferConfig(suite="hl", root=Path("x"), out=Path("y"))


@pytest.mark.slow
def test_the_library_function_gives_the_same(encoder: Path, root: Path, tmp_path: Path) -> None:
    config = TransferConfig(
        suite="hl", root=root, out=tmp_path / "out", encoder=encoder, preset="frozen", epochs=1, size=16, device="cpu"
    )
    result = evaluate_transfer(config)
    assert set(result.results) == {"birdsnap", "dtd"} and len(result.skipped) == 7
    assert result.results["dtd"].entry["protocol"]["test_images"] == 12


@pytest.mark.slow
def test_what_can_be_is_downloaded_and_the_rest_is_told(
    encoder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dtd, server = root / "dtd", tmp_path / "server"
    dtd.rename(server)

    def no_network(self: object) -> None:
        raise RuntimeError("Error downloading")

    monkeypatch.setattr(
        torchvision.datasets.DTD, "_download", lambda self: shutil.copytree(server, dtd, dirs_exist_ok=True)
    )
    monkeypatch.setitem(SUITES, "hl", replace(SUITES["hl"], datasets=("birdsnap", "dtd", "stanford_cars")))
    assert invoke(group, [*arguments(encoder, root, tmp_path / "out"), "--download"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("dtd") and lines[3].startswith("mean of 2")
    assert lines[4].startswith("skipped: dataset stanford_cars: not found as") and "--download" not in lines[4]
    monkeypatch.setattr(torchvision.datasets.Food101, "_download", no_network)
    monkeypatch.setitem(SUITES, "hl", replace(SUITES["hl"], datasets=("food101", "birdsnap")))
    assert invoke(group, [*arguments(encoder, root, tmp_path / "out"), "--download"]) == 1
    assert "dataset food101 under" in capsys.readouterr().err
