"""What it takes to add to genrep from outside: the smallest real objective and data set.

A generator and a view stand in generate/test_own_family_and_view.py, a protocol in evaluate/test_protocol.py, a store in
datasets_manifest/transport/test_own_store.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genrep.evaluate import KnnConfig, evaluate_knn
from genrep.images.labelled import LabelledImages, Pair
from genrep.images.sets import SETS, NamedSet, load_pair
from genrep.train.objectives import OBJECTIVES, Setup, build_objective, option_names

ALIGNMENT = '''
"""Alignment (Wang and Isola 2020, section 4.1): positives lie together. Nothing keeps them from all lying together."""

from torch import Tensor, nn

from genrep.train.objectives.base import Objective, Output, Setup, unit


class Alignment(Objective):
    name = "alignment"
    num_views = 2

    def __init__(self, setup: Setup, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        z = unit(encoder(images)).unflatten(0, (2, -1))
        return Output((z[0] - z[1]).norm(dim=1).pow(self.power).mean(), {}, z.detach())
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a lab's own."""
    folder = tmp_path / "lab_of_additions"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


LISTING = """
from click.testing import CliRunner
from genrep.train.objectives import OBJECTIVES
OBJECTIVES["first"] = ("lab.first", "First")
from genrep.errors import ConfigError
from genrep.train.cli import command
from genrep.train.config import TrainConfig
OBJECTIVES["second"] = ("lab.second", "Second")
del OBJECTIVES["first"]
print(TrainConfig(out="x", data="y", objective="second").objective)
try:
    TrainConfig(out="x", data="y", objective="first")
except ConfigError as error:
    print(error)
text = CliRunner().invoke(command, ["--help"], terminal_width=1000).output
print("second" in text, "first|" in text, CliRunner().invoke(command, ["--objective", "first"]).output.splitlines()[-1])
"""


def test_the_objectives_that_can_be_named_are_those_listed_at_the_time() -> None:
    """A registry that a lab adds to is followed by the settings and the command, whichever was imported first."""
    done = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True)
    named, refused, helped = done.stdout.splitlines()
    assert named == "second"
    assert refused.startswith("objective 'first': wanted one of simclr, ") and "second" in refused
    assert helped.startswith("True False ") and "'second'" in helped


def test_an_objective_is_one_file_and_one_line(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab / "alignment.py").write_text(ALIGNMENT)
    monkeypatch.setitem(OBJECTIVES, "alignment", ("lab_of_additions.alignment", "Alignment"))
    assert option_names("alignment") == ("power",)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False))
    objective = build_objective("alignment", Setup(encoder=encoder, width=3, seed=0), power=1.0)
    images = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    rows = encoder(images).tolist()
    wanted = 0.0
    for a, b in zip(rows[:4], rows[4:]):
        long = [sum(x * x for x in row) ** 0.5 for row in (a, b)]
        wanted += sum((x / long[0] - y / long[1]) ** 2 for x, y in zip(a, b)) ** 0.5 / 4
    assert objective.loss(encoder, images, {}, 0).loss.item() == pytest.approx(wanted, rel=1e-5)


def test_a_data_set_is_one_function_and_one_line(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stripes(name: str, root: Path, download: bool) -> Pair:
        def split(seed: int) -> LabelledImages:
            labels = np.arange(12) % 2
            pixels = np.random.RandomState(seed).randint(0, 100, (12, 16, 16, 3)).astype(np.uint8)
            pixels[labels == 1, ::2] += 150
            return LabelledImages(name, labels, ("plain", "striped"), split=f"split {seed}", pixels=pixels)

        return split(0), split(1)

    monkeypatch.setitem(SETS, "stripes", NamedSet(photos=stripes, licence="MIT"))
    train, test = load_pair("stripes", tmp_path)
    assert (len(train), len(test), train.classes) == (12, 12, ("plain", "striped"))
    result = evaluate_knn(KnnConfig(encoder=encoder, dataset="stripes", root=tmp_path, out=tmp_path / "out", k=3))
    assert result.entries[0]["dataset"] == "stripes" and result.entries[0]["n"] == 12
