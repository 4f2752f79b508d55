"""Every protocol takes a vision transformer and a narrow ResNet, and says which features were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrep.encoders import EncoderFacts, build_encoder, load_encoder, random_encoder, save_encoder
from genrep.errors import ConfigError, WeightsError
from genrep.evaluate.finetune.config import FinetuneConfig
from genrep.evaluate.finetune.run import evaluate_finetune
from genrep.evaluate.knn import evaluate_knn
from genrep.evaluate.linear.config import LinearConfig
from genrep.evaluate.linear.run import evaluate_linear
from genrep.evaluate.settings import KnnConfig
from genrep.evaluate.table import results_table
from genrep.evaluate.transfer import TransferConfig
from genrep.features import extract_features, token_batches

VIT = "vit_tiny_patch16_224:width=24,depth=2,heads=2"
MODEL = {"patch_size": 4}
PIXELS = np.random.RandomState(0).randint(0, 256, (7, 16, 16, 3)).astype(np.uint8)
CPU = torch.device("cpu")


def saved(folder: Path, arch: str, stem: str, seed: int = 0) -> Path:
    model = MODEL if stem == "patch" else {}
    facts = EncoderFacts(arch=arch, stem=stem, size=16, mean=(0.5,) * 3, std=(0.25,) * 3, model=model)
    path = folder / f"{stem}.safetensors"
    save_encoder(path, build_encoder(arch, stem, seed, size=16, model=model), facts)
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("vit"), VIT, "patch")


def knn(encoder: Path, images: Path, out: Path, **given: Any) -> Any:
    config = KnnConfig(**{"encoder": encoder, "dataset": str(images), "out": out, "k": 3, "device": "cpu", **given})
    return evaluate_knn(config)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "stem"), [(VIT, "patch"), ("resnet18:width=4", "cifar")])
def test_protocols_on_images(arch: str, stem: str, images: Path, tmp_path: Path) -> None:
    encoder, common = saved(tmp_path, arch, stem), {"dataset": str(images), "device": "cpu"}
    assert knn(encoder, images, tmp_path / "out").entry["value"] > 50
    linear = LinearConfig(encoder=encoder, out=tmp_path / "out", preset="simclr-lbfgs", size=16, crop=16, **common)
    assert evaluate_linear(linear).entry["value"] > 50
    moving = LinearConfig(encoder=encoder, out=tmp_path / "out", preset="genrep", size=16, crop=16, epochs=1, **common)
    assert evaluate_linear(moving).entry["n"] == 15
    whole = FinetuneConfig(encoder=encoder, out=tmp_path / "out", labels="2-per-class", epochs=1, **common)
    assert evaluate_finetune(whole).entry["n"] == 15
    told = f"{VIT}, patch 4, cls" if stem == "patch" else "resnet18:width=4, cifar stem"
    assert f"{told}, {load_encoder(encoder).sha256[:8]}" in results_table([("row", tmp_path / "out")])


def test_features_pooled_otherwise_are_another_encoders(vit: Path, images: Path, tmp_path: Path) -> None:
    own = knn(vit, images, tmp_path / "a").entry
    assert own["encoder"]["model"] == {"patch_size": 4, "global_pool": "cls"}
    assert knn(vit, images, tmp_path / "a", global_pool="cls").already_done
    with pytest.raises(Exception, match="holds this result for another encoder"):
        knn(vit, images, tmp_path / "a", global_pool="avg")
    other = knn(vit, images, tmp_path / "a", global_pool="avg", force=True).entry
    assert other["encoder"]["model"]["global_pool"] == "avg"
    alone = knn(vit, images, tmp_path / "b", global_pool="avg", cache=False).entry  # not of the features kept in a/
    assert other["encoder_sha256"] == alone["encoder_sha256"] != own["encoder_sha256"]
    assert {k: other[k] for k in ("value", "top5")} == {k: alone[k] for k in ("value", "top5")}
    files = {path.name for path in (tmp_path / "a/features").glob("*.npy")}
    assert len(files) == 4  # of two splits and two encoders


def test_pools_and_heads_tell_untrained_transformers_apart() -> None:
    made = [
        random_encoder(arch, "imagenet", 0, model={**MODEL, **pool}, size=16)
        for arch in (VIT, VIT.replace("heads=2", "heads=4"))
        for pool in ({}, {"global_pool": "cls"}, {"global_pool": "avg"})
    ]
    assert len({one.sha256 for one in made}) == 4
    assert made[0].sha256 == made[1].sha256


def test_what_has_no_pool_to_choose_refuses_one(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"global_pool avg: .*is a ResNet; wanted a vision transformer, or no global_"
    ):
        load_encoder(encoder, global_pool="avg")
    foreign = tmp_path / "foreign.pth"
    torch.save(build_encoder("resnet18:width=4", "imagenet", 0).state_dict(), foreign)
    with pytest.raises(WeightsError, match="is a ResNet"):
        load_encoder(foreign, global_pool="cls+avg")


def test_images_that_the_patches_do_not_divide_are_refused_before_any_is_read(
    vit: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrep.features.upload", None)
    with pytest.raises(
        ConfigError, match=r"its patches have 4 pixels, and these images 18x18; give a size that is a mult"
    ):
        knn(vit, images, tmp_path, size=18)
    config = {"dataset": str(images), "out": tmp_path, "encoder": vit, "device": "cpu"}
    with pytest.raises(ConfigError, match="these images 15x15; give a crop that is a multiple"):
        evaluate_linear(LinearConfig(preset="genrep", size=16, crop=15, **config))
    with pytest.raises(ConfigError, match="these images 18x18; give a size that is a multiple"):
        evaluate_finetune(FinetuneConfig(labels="2-per-class", size=20, **config))


def test_positions_for_another_size_are_said_once(
    vit: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knn(vit, images, tmp_path, size=24)
    said = "positions made for 16 pixels are interpolated to 24 (bicubic, antialiased)"
    assert capsys.readouterr().err.count(said) == 1
    knn(vit, images, tmp_path)
    assert "interpolated" not in capsys.readouterr().err
    config = LinearConfig(
        dataset=str(images), out=tmp_path, encoder=vit, device="cpu", size=24, crop=24, epochs=1, seeds=(0, 1)
    )
    evaluate_linear(config)
    assert capsys.readouterr().err.count(said) == 1


def test_a_transfer_passes_on_the_whole_choice_of_an_encoder(tmp_path: Path) -> None:
    chosen = {"random_init": True, "arch": VIT, "patch_size": 8, "global_pool": "avg"}
    config = TransferConfig(suite="hl", root=tmp_path, out=tmp_path, **chosen)
    assert {name: getattr(config.probe("pets"), name) for name in chosen} == chosen
    named = TransferConfig(suite="hl", root=tmp_path, out=tmp_path, encoder=tmp_path / "x.pth", network="teacher")
    assert named.probe("pets").network == "teacher"


def test_tokens_are_the_encoders_whatever_the_batch(vit: Path) -> None:
    loaded = load_encoder(vit)
    batches = [PIXELS[:4], PIXELS[4:]]
    found = list(token_batches(loaded.module, loaded.facts, batches, CPU, batch_size=4))
    with torch.no_grad():
        x = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
        wanted = loaded.module(x, tokens=True)
    for name in ("pooled", "cls", "patches"):
        whole = torch.cat([getattr(one, name) for one in found])
        torch.testing.assert_close(whole, getattr(wanted, name), atol=1e-5, rtol=1e-5)
    assert [one.grid for one in found] == [(4, 4)] * 2 and found[1].patches.shape == (3, 16, 24)
    pooled = extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=4)
    assert torch.equal(torch.cat([one.pooled for one in found]), pooled)
    with pytest.raises(WeightsError, match="Flatten: gives pooled features alone"):
        list(token_batches(torch.nn.Flatten(), loaded.facts, batches, CPU, batch_size=4))


def test_results_of_resnets_say_what_they_said(encoder: Path, images: Path, tmp_path: Path) -> None:
    knn(encoder, images, tmp_path)
    (entry,) = json.loads((tmp_path / "knn.json").read_text())
    assert entry["encoder"] == {"arch": "resnet18", "stem": "imagenet", "trained": True}
