"""``--weight-field`` in whole runs: where it changes what is learned, where it changes nothing, where it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_dataset import number, write_drawn

from genrep.errors import GenRepError, TrainingError
from genrep.train import TrainConfig, train
from genrep.train.engine import run as run_module
from genrep.train.engine.training_plan import resolve
from genrep.train.objectives import Step
from genrep.train.objectives.base import PAIR_WEIGHTS

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, write_beton: Callable[..., None]) -> Make:
    """``make("name", …)``: a folder with that dataset, written once."""
    root = tmp_path_factory.mktemp("weighted")

    def once(name: str, **options: Any) -> Path:
        folder = root / name
        return folder if folder.exists() else write_drawn(write_beton, folder, **options)

    return once


def config(data: Path | tuple[Path, ...], out: Path, **options: Any) -> TrainConfig:
    defaults = {"batch_size": 8, "epochs": 2, "lr": 1.0, "device": "cpu", "precision": "fp32", "log_every": 1}
    return TrainConfig(**{"data": data, "out": out, **defaults, **options})


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def run(data: Path | tuple[Path, ...], out: Path, **options: Any) -> list[float]:
    train(config(data, out, **options))
    return losses(out)


def weights_of(rule: Callable[[int], float]) -> Callable[[str, int], float]:
    return lambda name, index: rule(index) if name == "weight" else number(name, index)


@pytest.mark.slow
def test_weights_enter_the_loss_and_equal_ones_change_nothing(make: Make, tmp_path: Path) -> None:
    data = make("weights", floats=["weight"])
    weighted = run(data, tmp_path / "weighted", weight_field="weight", epochs=1)
    plain = run(data, tmp_path / "plain", epochs=1)
    assert len(weighted) == 3
    assert all(abs(a - b) > 1e-4 for a, b in zip(weighted, plain))
    even = make("even", floats=["weight"], number_of=weights_of(lambda i: 0.25))
    assert run(even, tmp_path / "even", weight_field="weight", epochs=1) == pytest.approx(plain, rel=1e-5)


@pytest.mark.slow
def test_the_parts_of_a_batch_have_weights_of_the_whole(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    forward = Step.forward

    def watched(self: Step, images: torch.Tensor, batch: dict[str, torch.Tensor], step: int) -> Any:
        seen.append(batch[PAIR_WEIGHTS])
        return forward(self, images, batch, step)

    monkeypatch.setattr(Step, "forward", watched)
    data = make("weights", floats=["weight"])
    options = {"objective": "byol", "weight_field": "weight", "accumulate": 3, "steps": 1, "epochs": None}
    run(data, tmp_path / "parts", batch_size=24, **options)
    assert [len(part) for part in seen] == [8, 8, 8]
    wanted = [number("weight", index) / 2.5 for index in range(24)]
    assert sorted(torch.cat(seen).tolist()) == pytest.approx(sorted(wanted))
    assert any(abs(float(part.mean()) - 1) > 0.01 for part in seen)


@pytest.mark.slow
def test_a_run_with_weights_resumes_and_tells_another_field(make: Make, tmp_path: Path) -> None:
    data = make("two", floats=["weight", "strength"])
    whole = run(data, tmp_path / "whole", weight_field="weight", epochs=2)
    out = tmp_path / "halves"
    settings = config(data, out, weight_field="weight", epochs=2)

    class Stop(Exception):
        pass

    def stop_after(self: Any, run: Any) -> None:
        if self.step == 4:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Training, "after_step", stop_after)
        with pytest.raises(Stop):
            train(settings)
    with pytest.raises(GenRepError, match="weight_field 'weight' there, 'strength' asked for"):
        train(config(data, out, weight_field="strength", epochs=2))
    train(settings)
    assert losses(out) == whole


@pytest.mark.slow
def test_several_sets_and_a_drawn_positives_own_number(make: Make, tmp_path: Path) -> None:
    several = (make("weights", floats=["weight"]), make("made", floats=["weight"], stored=False, positives=2))
    assert len(run(several, tmp_path / "several", weight_field="weight", steps=2, epochs=None)) == 2
    data = make("drawn", floats=["strength"], positives=3)
    options = {"weight_field": "strength", "positive": "random", "steps": 2, "epochs": None}
    assert len(run(data, tmp_path / "drawn", **options)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda index: -1.0 if index == 9 else 1.0, "pair 9 has -1, wanted a finite number, 0 at least"),
        (lambda index: float("nan") if index == 9 else 1.0, "pair 9 has nan"),
        (lambda index: 0.0, r"0 for all pairs of a batch, pair \d+ among them"),
    ],
)
def test_what_is_no_weight_ends_the_run_in_one_line(
    tmp_path: Path, write_beton: Callable[..., None], rule: Callable[[int], float], words: str
) -> None:
    data = write_drawn(write_beton, tmp_path / "bad", floats=["weight"], number_of=weights_of(rule))
    with pytest.raises(TrainingError, match=words) as caught:
        train(config(data, tmp_path / "run", weight_field="weight", batch_size=24, steps=1, epochs=None))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"weight_field": "wieght"},
            "wieght: the samples have no such float field; they have strength, strength_1, weight",
        ),
        ({"weight_field": "label"}, "label: the samples have no such float field; they have strength, "),
        ({"weight_field": "weight", "objective": "inverter"}, "objective inverter has no loss of a pair"),
        ({"weight_field": "weight", "objective": "classifier"}, "objective classifier has no loss of a pair"),
        (
            {"weight_field": "strength", "positive": "all"},
            "positive all trains on 2 of them; wanted a field of the pair",
        ),
        (
            {"weight_field": "strength", "positive": "anchor"},
            "positive anchor trains on none; wanted a field of the pair",
        ),
    ],
)
def test_fields_that_weigh_no_pair_are_refused_before_anything_begins(
    make: Make, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    data = make("refused", floats=["strength", "weight"], positives=2)
    with pytest.raises(TrainingError) as caught:
        resolve(config(data, tmp_path / "run", **options))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_without_float_fields_none_are_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no such float field; they have none"):
        resolve(config(make("plain", version=1), tmp_path / "run", weight_field="weight"))
    both = (make("refused", floats=["strength", "weight"], positives=2), make("plain", version=1))
    with pytest.raises(TrainingError, match="no such float field; they have none"):
        resolve(config(both, tmp_path / "run", weight_field="weight"))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["supcon", "simclr"])
def test_several_positives_of_a_prompted_set_train_with_groups_as_labels(
    make: Make, tmp_path: Path, objective: str
) -> None:
    data = make("prompted", positives=3, prompts=4, stored=False, shape=(4, 2, 2), floats=["weight"])
    options = {"objective": objective, "positive": "all", "weight_field": "weight", "epochs": 3, "lr": 0.3}
    found = run(data, tmp_path / objective, **options)
    assert len(found) == 9 and sum(found[-3:]) < sum(found[:3])
    settings = json.loads((tmp_path / objective / "config.json").read_text())
    assert (settings["num_views"], settings["weight_field"]) == (4, "weight")


@pytest.mark.slow
def test_the_inverter_learns_latents_of_any_shape_that_are_not_stored(make: Make, tmp_path: Path) -> None:
    stored, made = (make(f"inverter-{stored}", stored=stored, shape=(4, 2, 2)) for stored in (True, False))
    options = {"objective": "inverter", "epochs": 1, "lr": 0.1}
    assert run(stored, tmp_path / "stored", **options) == run(made, tmp_path / "made", **options)
