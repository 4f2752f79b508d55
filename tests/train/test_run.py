"""Whole runs: the loss falls, one seed is one curve, a resume changes nothing, two runs never mix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

from genrep.encoders import load_encoder
from genrep.errors import DatasetError, ResumeError, TrainingError
from genrep.runs.metrics import Window
from genrep.runs.processes import Processes
from genrep.train import TrainConfig, train
from genrep.train.engine import run as run_module

MakeDataset = Callable[..., Path]


def config(data: Path | tuple[Path, ...], out: Path, **options: Any) -> TrainConfig:
    defaults = {"batch_size": 8, "epochs": 4, "lr": 1.0, "device": "cpu", "precision": "fp32", "log_every": 2}
    return TrainConfig(**{"data": data, "out": out, **defaults, **options})


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def curve(out: Path) -> list[tuple[Any, ...]]:
    return [(line["step"], line["epoch"], line["loss"], line["lr"], line["embedding_std"]) for line in lines(out)]


@pytest.fixture(scope="module")
def finished(dataset: MakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    result = train(config(dataset(), out))
    assert result.encoder == out / "encoder.safetensors"
    assert result.images_per_s is not None and result.images_per_s > 0
    return out


def test_records_go_on_where_the_steps_to_come_are() -> None:
    """Numbers of a checkpoint and those of new steps are averaged together: on one device."""
    window = Window(Processes(device=torch.device("meta"), rank=1, size=2))
    window.restore([{"loss": 3.5}])
    assert window.names == ("loss",) and window.rows[0].device.type == "meta"


class BesideAnother(Processes):
    """The first of two processes; the other one's numbers are three times as large."""

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        return (values + 3 * values) / 2


def test_a_checkpoint_between_two_lines_holds_the_means_over_the_processes() -> None:
    """The first process writes it alone, and a line that goes on from it is that of an unbroken run."""
    place = BesideAnother(device=torch.device("cpu"), size=2)
    whole = Window(place)
    whole.add({"loss": torch.tensor(1.0)})
    state = whole.state()
    assert state == [{"loss": 2.0}]
    whole.add({"loss": torch.tensor(0.1)})
    resumed = Window(place)
    resumed.restore(state)
    resumed.add({"loss": torch.tensor(0.1)})
    first, second = whole.means(), resumed.means()
    assert first == second and first["loss"] == pytest.approx(1.1)


@pytest.mark.slow
def test_what_a_run_leaves_behind(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()} - {"tensorboard"}
    assert names == {"checkpoint.pt", "config.json", "curves.png", "encoder.safetensors", "metrics.jsonl"}
    assert [line["step"] for line in lines(finished)] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert lines(finished)[0].keys() == {
        *("step", "epoch", "loss", "lr", "embedding_std", "alignment", "uniformity", "images_per_s", "data_wait")
    }
    with Image.open(finished / "curves.png") as picture:
        assert picture.width > picture.height > 100 and len(np.unique(np.asarray(picture.convert("L")))) > 20
    torch.load(finished / "checkpoint.pt", weights_only=True)
    settings = json.loads((finished / "config.json").read_text())
    assert (settings["total_steps"], settings["positive"], settings["crop"]) == (20, "stored", 16)


def test_the_encoder_is_torchvisions(finished: Path) -> None:
    missing, unexpected = torchvision.models.resnet18().load_state_dict(
        load_file(finished / "encoder.safetensors"), strict=False
    )
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])
    assert load_encoder(finished).facts.size == 16


@pytest.mark.slow
def test_one_seed_is_one_curve_and_another_is_another(dataset: MakeDataset, finished: Path, tmp_path: Path) -> None:
    train(config(dataset(), tmp_path / "same", workers=3))
    assert curve(tmp_path / "same") == curve(finished)
    train(config(dataset(), tmp_path / "other", seed=1, epochs=1))
    assert curve(tmp_path / "other")[0] != curve(finished)[0]


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.mark.slow
@pytest.mark.parametrize("at_step", [7, 10])
def test_resume_is_bitwise(
    dataset: MakeDataset, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_step: int
) -> None:
    original = run_module.EncoderTrainer.train_step

    def train_step(self: run_module.EncoderTrainer, *arguments: Any) -> Any:
        if self.step == at_step:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module.EncoderTrainer, "train_step", train_step)
        train(config(dataset(), tmp_path))
    assert not (tmp_path / "encoder.safetensors").exists()
    assert lines(tmp_path)[-1]["step"] <= at_step
    train(config(dataset(), tmp_path))
    assert curve(tmp_path) == curve(finished)
    ours, theirs = load_file(tmp_path / "encoder.safetensors"), load_file(finished / "encoder.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_finished_run_is_left_alone(dataset: MakeDataset, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert train(config(dataset(), finished)).already_finished
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


@pytest.mark.slow
def test_another_run_is_refused_by_name(dataset: MakeDataset, finished: Path) -> None:
    with pytest.raises(
        ResumeError, match=r"\(temperature 0.1 there, 0.5 asked for\); give the same settings, or another out$"
    ):
        train(config(dataset(), finished, temperature=0.5))
    with pytest.raises(ResumeError, match=r"dataset_id"):
        train(config(dataset(positives=3), finished))


def test_the_folder_of_a_dataset_or_of_something_else_is_refused(dataset: MakeDataset, tmp_path: Path) -> None:
    data = dataset()
    before = sorted(path.name for path in data.iterdir())
    with pytest.raises(ResumeError, match=r"holds manifest\.json but no config\.json"):
        train(config(data, data))
    assert sorted(path.name for path in data.iterdir()) == before
    (tmp_path / "encoder.safetensors").write_text("")
    with pytest.raises(ResumeError, match=r"holds encoder\.safetensors but no config\.json"):
        train(config(data, tmp_path))


def test_a_folder_at_work_is_refused(dataset: MakeDataset, tmp_path: Path) -> None:
    with run_module.locked_folder(tmp_path), pytest.raises(ResumeError, match="another process is using"):
        train(config(dataset(), tmp_path))


def test_a_damaged_checkpoint_is_refused(dataset: MakeDataset, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((finished / "config.json").read_text())
    (tmp_path / "checkpoint.pt").write_bytes((finished / "checkpoint.pt").read_bytes()[:5000])
    with pytest.raises(ResumeError, match=r"checkpoint.pt: cannot be read"):
        train(config(dataset(), tmp_path))


@pytest.mark.slow
def test_the_loss_falls(dataset: MakeDataset, tmp_path: Path) -> None:
    """Without pixel views, which forty images of 16 px are too few to learn against."""
    train(config(dataset(), tmp_path, batch_size=20, epochs=5, lr=1.5, pixel_views="none", log_every=1))
    losses = [line["loss"] for line in lines(tmp_path)]
    assert losses[-1] < losses[0] / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"positive": "anchor"},
        {"positive": "random", "data": {"positives": 3}},
        {"stem": "cifar", "precision": "bf16"},
        {"steps": 3, "limit": 0.5, "crop": 12},
        {"data": {"encoding": "jpeg:95", "size": 24}},
        {"positive": "all", "data": {"positives": 3}},
        {"optimizer": "lars"},
        {"optimizer": "adamw", "compile": False},
        {"objective": "simsiam", "zero_init_residual": True, "accumulate": 2, "schedule": "cosine-by-epoch"},
        {"objective": "byol", "target_schedule": "cosine"},
        {"objective": "supcon", "base_temperature": 0.07},
        {"objective": "dcl"},
        {"objective": "dclw", "weight_sigma": 0.4},
        {"objective": "nnclr", "queue_size": 64},
        {"objective": "negative-feature-transform", "queue_size": 64},
        {"objective": "inverter", "class_head": True, "pixel_views": "none", "lr": 1e-3},
        {"objective": "classifier"},
    ],
    ids=str,
)
def test_other_settings_train(dataset: MakeDataset, tmp_path: Path, options: dict[str, Any]) -> None:
    options = dict(options)
    data = dataset(**options.pop("data", {}))
    if "steps" in options:
        options["epochs"] = None
    result = train(config(data, tmp_path, **{"epochs": 1, **options}))
    assert load_encoder(tmp_path).facts.size == result.plan.crop
    assert lines(tmp_path)[-1]["step"] == result.plan.total_steps


@pytest.mark.slow
def test_the_last_checkpoints_are_kept_and_each_resumes(dataset: MakeDataset, finished: Path, tmp_path: Path) -> None:
    train(config(dataset(), tmp_path, keep_checkpoints=2))
    names = sorted(path.name for path in tmp_path.glob("checkpoint*"))
    assert names == ["checkpoint-00000015.pt", "checkpoint-00000020.pt", "checkpoint.pt"]
    (tmp_path / "encoder.safetensors").unlink()
    (tmp_path / "checkpoint.pt").write_bytes(b"cut")
    with pytest.raises(ResumeError, match=r"checkpoint.pt: cannot be read .*; copy checkpoint-00000015.pt over it"):
        train(config(dataset(), tmp_path, keep_checkpoints=2))
    (tmp_path / "checkpoint.pt").write_bytes((tmp_path / "checkpoint-00000015.pt").read_bytes())
    train(config(dataset(), tmp_path))
    assert curve(tmp_path) == curve(finished)
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == ["checkpoint.pt"]


@pytest.mark.slow
def test_sets_are_joined_and_mixed(dataset: MakeDataset, tmp_path: Path) -> None:
    both = (dataset(), dataset(count=24, per_shard=8))
    assert train(config(both, tmp_path / "joined", epochs=1)).plan.steps_per_epoch == 8
    mixed = train(config(both, tmp_path / "mixed", epochs=1, mix=0.5, shuffle_window="2"))
    assert mixed.plan.steps_per_epoch == 5
    with pytest.raises(ResumeError, match=r"holds another run \(mix 0.5 there, 0.25 asked for, "):
        train(config(both, tmp_path / "mixed", epochs=1, mix=0.25))


@pytest.mark.slow
def test_a_folder_of_images_is_a_baseline(tmp_path: Path) -> None:
    for k in range(12):
        folder = tmp_path / "images" / f"class{k % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(k).randint(0, 256, size=(20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    result = train(config(tmp_path / "images", tmp_path / "out", batch_size=4, epochs=1, image_size=16))
    assert (result.plan.positive, result.plan.image_shape, result.plan.total_steps) == ("anchor", (16, 16), 3)


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_images_of_the_same_names(tmp_path: Path) -> None:
    folder = tmp_path / "images/all"
    folder.mkdir(parents=True)
    for k in range(4):
        pixels = np.random.RandomState(k).randint(0, 256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.bmp")
    given = config(tmp_path / "images", tmp_path / "out", batch_size=4, steps=1, epochs=None)
    train(given)
    assert train(given).already_finished
    Image.fromarray(255 - pixels).save(folder / "3.bmp")  # of the same size in bytes
    Image.fromarray(255 - pixels).save(folder / "4.bmp")
    said = r"holds another run \(dataset_id .*; of the images since: 1 image changed, 1 image added, e\.g\. 3\.bmp\)"
    for _ in range(2):
        with pytest.raises(ResumeError, match=said):
            train(given)


@pytest.mark.slow
def test_collapse_ends_the_run(dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"embeddings have collapsed: their relative std is .* at step \d+"):
        train(config(dataset(), tmp_path, collapse_std=10.0, collapse_steps=6))
    assert not (tmp_path / "encoder.safetensors").exists()


def test_a_loss_that_is_not_finite_ends_the_run(dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"loss is nan at step \d+, lr .*: this training has diverged; try a lower lr"
    ):
        train(config(dataset(), tmp_path, lr=1e30))
    assert not (tmp_path / "checkpoint.pt").exists() or "nan" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_failing_dataset_is_refused_before_anything_is_written(dataset: MakeDataset, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(dataset(), data)
    (data / "shard-00002.beton").unlink()
    with pytest.raises(DatasetError, match=r"shard-00002.beton"):
        train(config(data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


ONLINE = {"online": True, "gen": "stylegan2_fashion_cond", "steps_per_epoch": 3, "epochs": 2}


@pytest.mark.slow
def test_online_sampling_trains_and_resumes_on_the_samples_not_yet_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config((), tmp_path / "whole", **ONLINE, checkpoint_minutes=1e-9))
    assert (whole.plan.total_steps, whole.plan.positive, whole.plan.image_shape) == (6, "stored", (32, 32))
    original = run_module.EncoderTrainer.train_step

    def train_step(self: run_module.EncoderTrainer, *arguments: Any) -> Any:
        if self.step == 4:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module.EncoderTrainer, "train_step", train_step)
        train(config((), tmp_path / "cut", **ONLINE, checkpoint_minutes=1e-9))
    train(config((), tmp_path / "cut", **ONLINE, checkpoint_minutes=1e-9))
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    with pytest.raises(ResumeError, match="holds another run"):
        train(config((), tmp_path / "whole", **{**ONLINE, "views": "gaussian:std=.5"}))


@pytest.mark.slow
def test_the_autoencoder_decodes_with_its_generator(tmp_path: Path) -> None:
    options = {**ONLINE, "epochs": 1, "objective": "autoencoder", "class_head": True, "pixel_views": "none"}
    train(config((), tmp_path, **options, lr=0.01))
    assert {"latent_loss", "pixel_loss", "class_loss", "accuracy"} <= lines(tmp_path)[0].keys()


@pytest.mark.parametrize("online", [True, False])
def test_the_autoencoder_decodes_as_its_samples_were_made(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    opened = []

    def open_decoder(gen: str, **options: Any) -> Any:
        opened.append((gen, options["truncation"]))
        raise Killed

    monkeypatch.setattr("genrep.across.open_decoder", open_decoder)
    given = {**ONLINE, "data": ()} if online else {"data": dataset(), "gen": "stylegan2_fashion"}
    with pytest.raises(Killed):
        train(config(**{"out": tmp_path, **given, "objective": "autoencoder", "truncation": 0.3}))
    assert [truncation for _, truncation in opened] == [0.3]


def test_the_autoencoder_needs_a_generator(dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^objective autoencoder: requires a generator to decode with; give gen"):
        train(config(dataset(), tmp_path, objective="autoencoder"))
