"""Presets hold the papers' numbers, in a form that TOML and the objectives accept."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genrep.encoders import STEMS, architecture, build_encoder
from genrep.errors import ConfigError
from genrep.pixel_views import VIEW_NAMES, view_laws
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw, draw_boxes
from genrep.train.config import TrainConfig
from genrep.train.config.views import POSITIVES
from genrep.train.objectives import Setup, build_objective, option_names
from genrep.train.presets import DESCRIPTIONS, preset

SHARED = {
    *("objective", "arch", "optimizer", "lr", "weight_decay", "schedule", "lr_floor", "warmup_epochs", "batch_size"),
    *("epochs", "positive", "pixel_views", "crop", "sync_batchnorm"),
}
OF_RESNETS = {"stem", "zero_init_residual"}
OF_OPTIMISERS = {"sgd": "momentum", "lars": "momentum", "adamw": "beta2"}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [  # papers: objective, batch, epochs, peak rate, crop
        ("genrep-in1k", ("simclr", 256, 20, 0.03, 112)),
        ("genrep-in1k-conditional", ("supcon", 256, 20, 0.03, 112)),
        ("genrep-in1k-conditional-released", ("supcon", 256, 20, 0.01, 112)),
        ("genrep-in1k-inverter", ("inverter", 256, 20, 0.03, 112)),
        ("genrep-in100", ("simclr", 256, 200, 0.03, 112)),
        ("genrep-in100-classifier", ("classifier", 256, 60, 0.03, 112)),
        ("cop-gen-in1k", ("simclr", 224, 100, 0.02625, 128)),
        ("cop-gen-in100", ("simclr", 224, 200, 0.02625, 128)),
        ("hl-simclr", ("simclr", 224, 100, 0.02625, 128)),
        ("hl-simsiam-bigbigan", ("simsiam", 1024, 100, 0.2, 112)),
        ("hl-simsiam-stylegan2", ("simsiam", 512, 100, 0.1, 112)),
        ("hl-byol", ("byol", 512, 100, 0.1, 112)),
    ],
)
def test_rows_of_the_papers(name: str, numbers: tuple[str, int, int, float, int]) -> None:
    found = preset(name)
    peak = found["lr"] * found["batch_size"] / 256
    assert (found["objective"], found["batch_size"], found["epochs"], pytest.approx(peak), found["crop"]) == numbers
    assert (found["arch"], found["stem"], found["momentum"], found["weight_decay"]) == (
        "resnet50",
        "imagenet",
        0.9,
        1e-4,
    )
    heads = name.startswith("hl-") and name != "hl-simclr"
    assert (found["schedule"], found["lr_floor"]) == (("cosine", 0.1) if heads else ("cosine-by-epoch", 1e-3))
    assert found["sync_batchnorm"] == heads


@pytest.mark.parametrize(
    ("name", "numbers"),
    [  # papers' code: objective, images an update, epochs, warm-up, peak rate, weight decay
        ("stablerep-cc12m", ("multi-positive", 43 * 6 * 32, 46, 1.5, 2e-4 * 43 * 32 / 256 * 6 * 1 / 2, 0.1)),
        ("stablerep-redcaps", ("multi-positive", 43 * 6 * 32, 40, 1.35, 2e-4 * 43 * 32 / 256 * 6 * 1 / 2, 0.1)),
        ("genview-mocov3", ("mocov3", 2 * 8 * 512, 100, 10, 9.6, 1e-6)),
        ("mocov3-vit-s", ("mocov3", 2 * 4096, 300, 40, 1.5e-4 * 4096 / 256, 0.1)),
    ],
)
def test_rows_of_other_methods(name: str, numbers: tuple[str, int, int, float, float, float]) -> None:
    found = preset(name)
    images = found["batch_size"] * (6 if found["positive"] == "all" else 2)
    peak = found["lr"] * found["batch_size"] / 256
    length = (found["epochs"], found["warmup_epochs"])
    assert (found["objective"], images, *length, pytest.approx(peak), found["weight_decay"]) == numbers
    assert (found["crop"], found["lr_floor"], found["sync_batchnorm"]) == (224, 0, True)


def test_scales_of_the_crops_are_those_of_the_authors_code() -> None:
    found = {name: view_laws(name) for name in ("stablerep", "mocov3", "dino", "synclr")}
    assert {name: laws.views[0].scale for name, laws in found.items()} == {
        **{"stablerep": (0.08, 1.0), "mocov3": (0.08, 1.0), "dino": (0.4, 1.0), "synclr": (0.32, 1.0)}
    }
    assert (found["dino"].local.scale, found["synclr"].local.scale) == ((0.05, 0.4), (0.08, 0.32))


def test_hl_warms_up_at_batch_1024_only() -> None:
    assert preset("hl-simsiam-bigbigan")["warmup_epochs"] == 10
    assert preset("hl-simsiam-stylegan2")["warmup_epochs"] == preset("genrep-in1k")["warmup_epochs"] == 0


@pytest.mark.parametrize("name", [name for name in DESCRIPTIONS if preset(name)["objective"] in ("simclr", "supcon")])
def test_the_papers_scale_of_the_loss_is_kept(name: str) -> None:
    found = preset(name)
    assert found["temperature"] / found["base_temperature"] == pytest.approx(1.4286, abs=1e-4)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_preset_is_complete_known_and_fits_toml(name: str) -> None:
    found = preset(name)
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in found.items())
    assert tomllib.loads(toml) == found
    is_vit = architecture(found["arch"]).is_vit
    assert found.keys() >= SHARED | (set() if is_vit else OF_RESNETS) | {OF_OPTIMISERS[found["optimizer"]]}
    assert found.get("stem", "imagenet") in STEMS and found["pixel_views"] in VIEW_NAMES
    assert found["positive"] in POSITIVES and found["schedule"] in ("cosine", "cosine-by-epoch")
    config = TrainConfig(**found, data=Path("x"), out=Path("y"))
    assert config.laws_of_views().views
    own = config.objective_options()
    assert own.keys() <= set(option_names(found["objective"]))
    encoder: nn.Module = nn.Flatten()
    if is_vit:
        model = {"patch_size": 8}
        encoder = build_encoder("vit_tiny_patch16_224:width=8,depth=1,heads=1", "imagenet", 0, size=16, model=model)
    setup = Setup(encoder=encoder, width=8, seed=0, latent_shape=(2,), labels=(0, 1))
    built = build_objective(found["objective"], setup, **own)
    assert built.name == found["objective"] and (built.weighs_pairs or "weight_field" not in found)


def test_a_preset_is_the_callers_own() -> None:
    preset("genrep-in1k")["lr"] = 9.0
    assert preset("genrep-in1k")["lr"] == 0.03


def test_an_unknown_preset_is_one_line_with_the_names() -> None:
    with pytest.raises(
        ConfigError, match=r"^preset 'genrep': wanted one of genrep-in1k, .*hl-byol.*small-simclr"
    ) as caught:
        preset("genrep")
    assert caught.value.in_shell() == f"--{caught.value}"
    assert "\n" not in str(caught.value)


def test_cop_gens_rows_without_crops_see_the_middle_enlarged() -> None:
    """CenterCrop(112) -> Resize(128) of 128-px images, as its code does; GenRep's and HL's see 112 px as they are."""
    centres = {name: preset(name).get("centre") for name in DESCRIPTIONS}
    assert {name for name, centre in centres.items() if centre} == {"cop-gen-in1k", "cop-gen-in100", "hl-simclr"}
    settings = {**preset("cop-gen-in1k"), "pixel_views": "none", "out": Path("x"), "data": Path("y")}
    law, crop = TrainConfig(**settings).laws_of_views().views[0], settings["crop"]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8))
    keys: dict[str, Any] = {"seed": 0, "epoch": 0, "index": np.arange(2), "view": np.zeros(2, dtype=np.int64)}
    parameters = draw(law, **keys, image_shape=(128, 128), size=crop)
    found = apply_views(images, parameters, crop, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    middle = images[:, 8:120, 8:120].permute(0, 3, 1, 2).float() / 255
    wanted = torch.nn.functional.interpolate(middle, (128, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found.float(), wanted, atol=0.01, rtol=0)
    boxes = draw_boxes(
        law, **keys, image_shape=(np.array([128, 256]), np.array([128, 341]))
    )  # of pictures of several sizes
    assert boxes["height"].tolist() == [112, 112] and boxes["left"].tolist() == [8, 114]
