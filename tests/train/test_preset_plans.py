"""Every preset is a plan of a run, on any dataset that has what it trains on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_dataset import write_drawn

from genrep.cli import invoke
from genrep.train.cli import command
from genrep.train.presets import DESCRIPTIONS, preset

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_beton: Callable[..., None]) -> Path:
    """24 anchors of 16 pixels, each with a label, latents, 3 positives and a weight."""
    return write_drawn(write_beton, tmp_path_factory.mktemp("data") / "set", positives=3, floats=["weight"])


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_preset_is_a_plan(name: str, data: Path, tmp_path: Path, capsys: Captured) -> None:
    given = ["--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", "--batch-size", "8", "--dry-run"]
    assert invoke(command, ["--preset", name, *given]) == 0
    plan = json.loads(capsys.readouterr().out)
    wanted = {**preset(name), "batch_size": 8}
    of_one_image = wanted["objective"] in ("classifier", "inverter")
    if of_one_image:  # the anchor, whatever is stored beside it
        wanted["positive"] = "anchor"
    assert {key: plan[key] for key in wanted} == wanted
    assert (plan["lr_scaled"], plan["total_steps"]) == (pytest.approx(wanted["lr"] / 32), 3 * wanted["epochs"])
    assert plan["num_views"] == (1 if of_one_image else 4 if wanted["positive"] == "all" else 2)
    assert not (tmp_path / "run").exists()


def test_weights_of_pairs_are_wanted_by_genview_alone(dataset: Callable[..., Path], capsys: Captured) -> None:
    given = ["--data", str(dataset()), "--out", "x", "--batch-size", "8", "--dry-run"]
    assert invoke(command, ["--preset", "genview-mocov3", *given]) == 1
    assert "--weight-field weight: the samples have no such float field" in capsys.readouterr().err
    assert [name for name in DESCRIPTIONS if "weight_field" in preset(name)] == ["genview-mocov3"]
