"""What is asked for, resolved: defaults that follow from the dataset, and refusals that name the option."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.errors import ConfigError, DatasetError, TrainingError
from genrep.train.config import TrainConfig
from genrep.train.engine.training_plan import TrainingPlan, resolve

MakeDataset = Callable[..., Path]


def plan(data: Path | tuple[Path, ...], **options: Any) -> TrainingPlan:
    return resolve(TrainConfig(**{"data": data, "out": Path("unused"), "batch_size": 8, "device": "cpu", **options}))


@pytest.mark.slow
def test_defaults(dataset: MakeDataset) -> None:
    found = plan(dataset())
    assert (found.positive, found.crop, found.image_shape) == ("stored", 16, (16, 16))
    assert (found.steps_per_epoch, found.dropped_per_epoch, found.total_steps, found.warmup_steps) == (5, 0, 100, 0)
    assert found.lr_scaled == pytest.approx(0.03 * 8 / 256)
    assert plan(dataset(positives=0, latents=False)).positive == "anchor"
    assert plan(dataset(count=4, per_shard=4, size=128), batch_size=2).crop == 112
    assert plan(dataset(count=4, per_shard=4, size=72), batch_size=2).crop == 72


def test_length(dataset: MakeDataset) -> None:
    assert plan(dataset(), steps=7).total_steps == 7
    half = plan(dataset(), limit=0.5, steps=7)  # equal updates on a part
    assert (half.num_pairs, half.steps_per_epoch, half.dropped_per_epoch, half.total_steps) == (20, 2, 4, 7)
    assert plan(dataset(), epochs=3, warmup_epochs=0.4).warmup_steps == 2


@pytest.mark.slow
def test_identity_leaves_out_what_a_resumed_run_may_change(dataset: MakeDataset) -> None:
    one, other = plan(dataset()), plan(dataset(), workers=3, log_every=1, checkpoint_every=5, out=Path("elsewhere"))
    assert one.identity() == other.identity()
    assert one.identity() != plan(dataset(), temperature=0.2).identity()
    assert one.identity() != plan(dataset(positives=3)).identity()
    assert one.identity() != plan(dataset(), shuffle_window="2").identity()  # another order
    assert plan(str(dataset()), out="x").config.out == Path("x")  # as Python callers write it


def test_an_objectives_own_defaults_are_settled(dataset: MakeDataset) -> None:
    assert plan(dataset()).config.temperature == 0.1
    nnclr = plan(dataset(), objective="negative-feature-transform").config
    assert (nnclr.temperature, nnclr.queue_size, nnclr.target_momentum, nnclr.class_head) == (0.2, 65536, 0.999, None)


def test_rates_and_decays_are_the_optimisers(dataset: MakeDataset) -> None:
    found = {name: plan(dataset(), optimizer=name) for name in ("sgd", "lars", "adamw")}
    assert {name: (p.config.lr, p.config.weight_decay) for name, p in found.items()} == {
        "sgd": (0.03, 1e-4),
        "lars": (0.3, 1e-6),
        "adamw": (1.5e-4, 0.1),
    }
    assert plan(dataset(), weight_decay=0.0).config.weight_decay == 0.0


def test_how_many_images_of_a_sample_are_seen(dataset: MakeDataset) -> None:
    several = dataset(positives=3)
    assert (plan(several).num_views, plan(several, positive="all").num_views) == (2, 4)
    single = plan(several, objective="classifier", positive="stored")
    assert (single.num_views, single.positive, single.views_per_step) == (1, "anchor", 8)


def test_a_mixture_is_as_long_as_the_first_set(dataset: MakeDataset) -> None:
    both = (dataset(count=16), dataset())
    assert (plan(both).num_pairs, plan(both, mix=0.5).num_pairs) == (56, 16)
    assert plan(both, mix=0.5).identity() != plan(both, mix=0.25).identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 41}, r"--batch-size 41: .* gives 40 pairs"),
        ({"batch_size": 32, "limit": 0.5}, r"gives 20 pairs"),
        ({"epochs": 2, "warmup_epochs": 2}, r"--warmup-epochs 2: 10 of 10 steps"),
        ({"positive": "anchor", "pixel_views": "none"}, r"the two views of a pair would be the same image"),
        ({"accumulate": 2}, r"--accumulate 2: --objective simclr compares the samples of a batch"),
        (
            {"objective": "simsiam", "accumulate": 3},
            r"--batch-size 8: 1 processes times --accumulate 3 require a multiple of 3",
        ),
        (
            {"objective": "simsiam", "temperature": 0.1},
            r"--temperature: --objective simsiam has no such option; it has none",
        ),
        ({"objective": "byol", "queue_size": 4}, r"it has --target-momentum, --target-schedule"),
        ({"precision": "fp16"}, r"--precision fp16: requires a GPU"),
    ],
)
def test_settings_that_make_no_training(dataset: MakeDataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        plan(dataset(), **options)
    assert re.search(message, caught.value.in_shell())
    assert "--" not in str(caught.value)


def test_a_positive_that_is_not_stored(dataset: MakeDataset) -> None:
    for positive in ("stored", "random"):
        with pytest.raises(DatasetError, match=f"^positive {positive}: .* stores anchors only") as caught:
            plan(dataset(positives=0, latents=False), positive=positive)
        assert re.search(f"--positive {positive}: .* stores anchors only", caught.value.in_shell())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "vit"}, r"--arch 'vit': wanted one of resnet18"),
        ({"positive": "both"}, r"--positive 'both': wanted one of stored, anchor, random, all"),
        ({"objective": "moco"}, r"--objective 'moco': wanted one of simclr"),
        ({"mix": 0.5}, r"--mix 0.5: requires --data twice, found 1"),
        ({"steps_per_epoch": 3}, r"--steps-per-epoch: requires --online"),
        ({"online": True}, r"--data: cannot be combined with --online"),
        ({"data": (), "online": True}, r"--online: requires --gen"),
        ({"data": (), "online": True, "gen": "x"}, r"--online: requires --steps-per-epoch"),
        ({"data": ()}, r"--data: wanted a dataset, or --online"),
        ({"gen": "x"}, r"--gen x: requires --online or --objective autoencoder"),
        ({"knn_every": 1}, r"--knn-every 1: requires --knn-data"),
        ({"lr_floor": 1.5}, r"--lr-floor 1.5: wanted 0 to 1"),
        ({"accumulate": 0}, r"--accumulate 0: wanted at least 1"),
        ({"pixel_views": "x"}, r"--pixel-views 'x': wanted one of simclr"),
        ({"epochs": 1, "steps": 1}, r"--epochs 1 and --steps 1: give only one of the two"),
        ({"batch_size": 1}, r"--batch-size 1: wanted at least 2"),
        ({"lr": float("nan")}, r"--lr nan: wanted a positive number"),
        ({"weight_decay": -1.0}, r"--weight-decay -1.0: wanted"),
        ({"momentum": 1.0}, r"--momentum 1.0: wanted 0 to below 1"),
        ({"limit": 0.0}, r"--limit 0.0: wanted above 0"),
        ({"seed": -1}, r"--seed -1: wanted"),
    ],
)
def test_settings_that_are_wrong_in_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{"data": Path("x"), "out": Path("y"), **options})
    assert re.search(message, caught.value.in_shell())
    assert "--" not in str(caught.value)


def test_the_settled_settings_are_a_config_of_their_own(dataset: MakeDataset) -> None:
    found = plan(dataset(), batch_size=16)
    assert TrainConfig(**vars(found.config)) == found.config  # its checks hold for what was derived
    assert found.settings()["steps_per_epoch"] == found.steps_per_epoch == 2
