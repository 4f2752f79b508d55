"""``genrep-train --online`` with prompts, real anchors and weights: what a dataset of the same options trains on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from genrep import datasets_manifest
from genrep.across import open_online
from genrep.errors import ConfigError, GenRepError, TrainingError
from genrep.generate import BuildConfig, build_dataset
from genrep.train import PairLoader, TrainConfig, train
from genrep.train.cli import command
from genrep.train.data.online import OnlineLoader
from genrep.train.engine.training_plan import resolve

PAINTER = """
import torch

from genrep.generate.generators.base import LatentSpec


class Painter:
    '''Its images show the latent, and the length of the prompt.'''

    latent, num_classes, image_shape, takes_prompts = LatentSpec(shape=(3, 4, 4)), 0, (16, 16), True

    def synthesize(self, z, y=None):
        lengths = torch.tensor([len(text) for text in y]).view(-1, 1, 1, 1) / 20
        return (torch.nn.functional.interpolate(z, scale_factor=4) / 3 + lengths - 0.5).clamp(-1, 1)


class Editor(Painter):
    takes_prompts = False

    def synthesize(self, z, y=None):
        return (torch.nn.functional.interpolate(z, scale_factor=4) / 3).clamp(-1, 1)

    def edit(self, images, z, y=None, *, strength, noise=None):
        part = strength.view(-1, 1, 1, 1)
        return (1 - part) * images + part * self.synthesize(z)
"""
PROMPTS = "".join(f"{group}\t{group} {'very ' * k}small\n" for group in ("cat", "dog", "cow") for k in range(4))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a module of generators, prompts in three groups, photos of two classes."""
    (tmp_path / "painting.py").write_text(PAINTER)
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    random = np.random.RandomState(0)
    for i in range(12):
        path = tmp_path / f"photos/{'ab'[i // 6]}/{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 255, (20, 18, 3), dtype=np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "painting", raising=False)
    return tmp_path


def config(**options: Any) -> TrainConfig:
    defaults = {"online": True, "steps_per_epoch": 3, "epochs": 1, "batch_size": 8, "lr": 0.3, "device": "cpu"}
    return TrainConfig(**{**defaults, "precision": "fp32", "log_every": 1, "out": Path("run"), **options})


PROMPTED = {"gen": "painting:Painter", "views": "independent", "prompts": Path("prompts.txt")}
ANCHORED = {"gen": "painting:Editor", "views": "sdedit:strength=.2-.9", "anchors": "photos"}


@pytest.mark.parametrize("options", [PROMPTED, ANCHORED], ids=["prompts", "anchors"])
def test_online_pairs_are_those_of_the_dataset(here: Path, options: dict[str, Any]) -> None:
    build_dataset(BuildConfig(**options, num_pairs=12, num_positives=2, processes=1, batch_size=6, out=here / "set"))
    data = datasets_manifest.open(here / "set")
    source = open_online(**options, num_positives=2)
    loader = OnlineLoader(source, batch_size=12, steps_per_epoch=1, positive="all", seed=5)
    (batch,) = loader
    assert batch["index"].tolist() != list(range(12)) and sorted(batch["index"].tolist()) == list(range(12))
    (stored,) = PairLoader(here / "set", batch_size=12, positive="all")
    places = {index: row for row, index in enumerate(stored["index"].tolist())}
    assert set(batch) == set(stored)
    for row, index in enumerate(batch["index"].tolist()):
        for name, values in batch.items():
            assert values.dtype == stored[name].dtype and values.shape == stored[name].shape
            np.testing.assert_array_equal(values[row].numpy(), stored[name][places[index]].numpy(), err_msg=name)
    assert data.manifest.num_positives == 2


@pytest.mark.slow
def test_a_training_on_prompts_has_their_groups_as_labels(here: Path) -> None:
    """supcon with three positives each, online and from the dataset that the real command builds of the same options."""
    options = {"objective": "supcon", "positive": "all"}
    result = train(config(**PROMPTED, **options, num_positives=3, epochs=2))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and result.encoder.exists()
    settings = json.loads(Path("run/config.json").read_text())
    assert (settings["num_views"], settings["prompts"]) == (4, "prompts.txt")
    source = open_online(**PROMPTED)
    assert (source.classes, source.labels, source.turn) == (("cat", "dog", "cow"), (0, 1, 2), 12)

    build_dataset(
        BuildConfig(**PROMPTED, num_pairs=24, num_positives=3, processes=1, store_latents="no", out=here / "set")
    )
    stored = TrainConfig(
        **{"data": here / "set", "out": Path("stored"), "batch_size": 8, "epochs": 1, "device": "cpu"}, **options
    )
    assert train(stored).encoder.exists()


@pytest.mark.slow
def test_real_anchors_may_be_weighed_by_what_was_drawn_for_their_positives(here: Path) -> None:
    result = train(config(**ANCHORED, weight_field="strength"))
    assert result.loss is not None and np.isfinite(result.loss)
    plain = train(config(**ANCHORED, out=Path("plain")))
    assert plain.loss != result.loss
    with pytest.raises(TrainingError, match="weight: the samples have no such float field; they have strength"):
        resolve(config(**ANCHORED, weight_field="weight"))
    with pytest.raises(TrainingError, match="wanted the field z_anchor"):
        train(config(**ANCHORED, objective="inverter", out=Path("inverter")))


@pytest.mark.slow
def test_a_resume_tells_other_prompts(here: Path) -> None:
    train(config(**PROMPTED))
    Path("moved.txt").write_text(PROMPTS)
    assert train(config(**{**PROMPTED, "prompts": Path("moved.txt")})).already_finished
    Path("moved.txt").write_text(PROMPTS.replace("cow", "hen"))
    with pytest.raises(GenRepError, match=r"holds another run \(dataset_id"):
        train(config(**{**PROMPTED, "prompts": Path("moved.txt")}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"online": False, "data": "x", "steps_per_epoch": None, "prompts": "p"}, "prompts: requires online"),
        ({"online": False, "data": "x", "steps_per_epoch": None, "guidance": 2.0}, "guidance: requires online"),
        ({"online": False, "data": "x", "steps_per_epoch": None, "sampler_steps": 2}, "sampler_steps: requires online"),
        ({"gen": "painting:Editor", "root": Path("data")}, "root data: requires anchors"),
        ({"gen": "painting:Editor", "download": True}, "download True: requires anchors"),
    ],
)
def test_options_that_need_others_name_them(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**options)


def test_the_command_takes_the_datasets_options_and_says_what_is_wrong_by_their_names(here: Path) -> None:
    given = "--online --steps-per-epoch 3 --batch-size 8 --device cpu --out run --dry-run --gen painting:"

    def refused(options: str) -> str:
        error = CliRunner().invoke(command, (given + options).split()).exception
        assert isinstance(error, GenRepError)
        return error.in_shell()

    done = CliRunner().invoke(command, (given + "Painter --views independent --prompts prompts.txt").split())
    assert json.loads(done.output)["num_pairs"] == 24
    assert "nowhere.txt" in refused("Painter --views independent --prompts nowhere.txt")
    assert "--prompts" in refused("Editor --prompts prompts.txt")
    assert "--views gaussian" in refused("Editor --anchors photos --views gaussian")
