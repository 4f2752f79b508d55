"""``finetune --preset mae`` and ``synclr``: timm's mixing and augmentation from our own draws, the rates, and resumed runs."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment, random_erasing
from timm.data.mixup import Mixup

from genrep.encoders.loaded import random_encoder
from genrep.evaluate import FinetuneConfig, evaluate_finetune
from genrep.evaluate.finetune.config import PRESETS
from genrep.evaluate.finetune.mixing import DropPath, add_drop_path, draw_paths, mixed
from genrep.evaluate.finetune.strong import groups, repool
from genrep.evaluate.finetune.training import build_network
from genrep.evaluate.strong_augmentation import LEVELS, TRIES, erase, operated, rand_augmented
from genrep.runs.checkpoints import Checkpoints
from genrep.seeding import derive, standard_normals, uniforms

ARCH = "vit_tiny_patch16_224:width=16,depth=3,heads=2"
MAE = PRESETS["mae"]


def network(law: Any = MAE) -> Any:
    module = copy.deepcopy(random_encoder(ARCH, "patch", 0, model={"patch_size": 8}, size=16).module)
    repool(module, law, None)
    return build_network(module, 16, 3, 0, torch.device("cpu"), law)


def test_mixing_is_timms() -> None:
    """Its global stream, in the state of ours, gives the same images and labels."""
    images, labels = torch.randn(6, 3, 20, 12), torch.tensor([0, 1, 2, 3, 4, 0])
    theirs = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=5)
    state = np.random.get_state()
    cuts = 0
    try:
        for step in range(12):
            found, soft = mixed(images, labels, 5, MAE, seed=3, step=step)
            key = derive("mixup", 3, step)
            np.random.seed([key & 0xFFFFFFFF, key >> 32])
            wanted, wanted_soft = theirs(images.clone(), labels)
            torch.testing.assert_close(found, wanted)
            torch.testing.assert_close(soft, wanted_soft)
            cuts += bool((found == images).any())
    finally:
        np.random.set_state(state)
    assert 0 < cuts < 12


@pytest.mark.parametrize("name", LEVELS)
def test_operations_are_timms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (12, 10, 3)).astype(np.uint8)
    image, fill = Image.fromarray(pixels), (124, 116, 104)
    hparams = {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
    assert list(LEVELS) == auto_augment._RAND_INCREASING_TRANSFORMS
    for magnitude in (0.0, 8.73, 10.0):
        for sign in (1, -1):
            if (
                name == "PosterizeIncreasing" and magnitude == 10.0
            ):  # no bit is left, which newer versions of Pillow refuse
                assert not np.asarray(operated(image, name, magnitude, sign, fill)).any()
                continue
            monkeypatch.setattr(auto_augment, "_randomly_negate", lambda level, sign=sign: sign * level)
            theirs = auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)(image)
            assert (np.asarray(operated(image, name, magnitude, sign, fill)) == np.asarray(theirs)).all()


def test_rand_augment_takes_what_the_image_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's transform, fed with the same numbers, gives the same image."""
    pixels = np.random.RandomState(1).randint(0, 256, (12, 12, 3)).astype(np.uint8)
    image, fill = Image.fromarray(pixels), (1, 2, 3)
    hparams = {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
    theirs = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", hparams)
    changed = 0
    for index in range(12):
        key, rows = derive("rand-augment", 0, 2), np.array([index])
        numbers, noise = uniforms(key, rows, 0, 6).reshape(2, 3), standard_normals(key, rows, 1, 2)[0]
        fed: list[float] = []
        for choice, applied, sign in numbers:
            op = tuple(LEVELS)[int(choice * len(LEVELS))]
            signed = applied <= 0.5 and not op.startswith(("Auto", "Eq", "Inv", "Post", "Sol"))
            fed += [applied, *([sign] if signed else [])]
        applied_noise = iter([z for (_, applied, _s), z in zip(numbers, noise) if applied <= 0.5])
        stream = iter(fed)
        fake = SimpleNamespace(
            random=lambda stream=stream: next(stream),
            gauss=lambda mean, std, z=applied_noise: mean + std * float(next(z)),
        )
        ops = [theirs.ops[int(choice * len(LEVELS))] for choice, _, _ in numbers]
        monkeypatch.setattr(auto_augment, "random", fake)
        monkeypatch.setattr(auto_augment.np.random, "choice", lambda *_, ops=ops, **__: ops)
        wanted = np.asarray(theirs(image))
        found = np.asarray(rand_augmented(image, fill, seed=0, epoch=2, index=index))
        assert (found == wanted).all()
        changed += bool((found != pixels).any())
    assert 3 < changed < 12


class Fed:
    """Stands in for the module ``random`` in timm's erasing: four of the drawn numbers for each try."""

    def __init__(self, drawn: Any) -> None:
        self.first, self.tries, self.now = float(drawn[0]), iter(drawn[1:].reshape(TRIES, 4)), iter(())

    def random(self) -> float:
        return self.first

    def uniform(self, low: float, high: float) -> float:
        if low == 0.02:  # the area, a try's first
            self.now = iter(next(self.tries))
        return low + (high - low) * float(next(self.now))

    def randint(self, low: int, high: int) -> int:
        return low + int(float(next(self.now)) * (high - low + 1))


def test_erasing_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fed with the same numbers; and an image's rectangle does not depend on its batch."""
    images, index = torch.ones(24, 3, 16, 14), np.arange(100, 124)
    found = images.clone()
    erase(found, 0.25, seed=1, epoch=2, index=index)
    numbers = uniforms(derive("random-erasing", 1, 2), index, 0, 1 + 4 * TRIES)
    monkeypatch.setattr(random_erasing, "_get_pixels", lambda *_, **__: 0.0)
    erased = 0
    for row, drawn in enumerate(numbers):
        monkeypatch.setattr(random_erasing, "random", Fed(drawn))
        wanted = random_erasing.RandomErasing(probability=0.25, mode="pixel", device="cpu")(images[row].clone())
        assert ((found[row] != 1) == (wanted != 1)).all()
        erased += bool((wanted != 1).any())
        one = images[:1].clone()
        erase(one, 0.25, seed=1, epoch=2, index=index[row : row + 1])
        assert torch.equal(one[0], found[row])
    assert 1 < erased < 14


def test_rates_fall_with_depth_and_vectors_do_not_decay() -> None:
    """MAE's util/lr_decay.py: the embedding is layer 0, block i layer i + 1, all else the highest."""
    net = network()
    names = {id(one): f"encoder.{name}" for name, one in net.encoder.named_parameters()}
    names |= {id(one): f"head.{name}" for name, one in net.head.named_parameters()}
    seen = {}
    for group in groups(net, MAE):
        for one in group["params"]:
            seen[names[id(one)]] = (group["lr_scale"], group["weight_decay"])
    assert seen.keys() == set(names.values())
    for name, (scale, decay) in seen.items():
        part = name.split(".", 1)[1]
        first = part.startswith(("cls_token", "pos_embed", "patch_embed"))
        layer = 0 if first else int(part.split(".")[1]) + 1 if part.startswith("blocks") else 4
        assert scale == pytest.approx(0.65 ** (4 - layer))
        vector = part.endswith("bias") or "norm" in part or part in ("cls_token", "pos_embed")
        assert decay == (0.0 if vector else 0.05), name


def test_mae_reads_the_mean_of_the_patches_behind_a_new_norm() -> None:
    net = network()
    assert net.encoder.pooled_by == "avg" and isinstance(net.encoder.norm, torch.nn.Identity)
    assert float(net.head.weight.detach().std()) == pytest.approx(2e-5, rel=0.5) and not net.head.bias.any()
    pooled = net.encoder.eval()(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(pooled.mean(dim=1).detach(), torch.zeros(2), atol=1e-5, rtol=0)
    assert network(PRESETS["synclr"]).encoder.pooled_by == "cls"


def test_drop_path_rises_with_depth_and_keeps_the_mean() -> None:
    net = network()
    paths = add_drop_path(net.encoder, 0.4)
    assert [path.rate for path in paths] == [0, 0, 0.2, 0.2, 0.4, 0.4]
    draw_paths(paths, 4000, seed=0, step=5)
    assert paths[0].factors is None
    for path in paths[2:]:
        assert path.factors is not None
        kept = float((path.factors > 0).float().mean())
        assert kept == pytest.approx(1 - path.rate, abs=0.03)
        assert float(path.factors.max()) == pytest.approx(1 / (1 - path.rate))
    branch = torch.ones(4000, 2, 1)
    assert torch.equal(paths[4].train()(branch)[:, 0, 0], paths[4].factors)
    assert torch.equal(paths[4].eval()(branch), branch)
    assert isinstance(net.encoder.blocks[2].drop_path2, DropPath)


def config(images: Path, out: Path, **options: Any) -> FinetuneConfig:
    given: dict[str, Any] = {"dataset": str(images), "out": out, "device": "cpu", "random_init": True, "arch": ARCH}
    given |= {"patch_size": 8, "crop": 16, "epochs": 3, "batch_size": 12, "lr": 1e-3}
    return FinetuneConfig(**{**given, **options})


@pytest.mark.parametrize("preset", ["mae", "synclr"])
def test_interrupted_it_goes_on_to_the_same_result(
    preset: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of threads, and whatever other code draws from the global streams."""
    states: dict[str, list[Any]] = {"whole": [], "part": []}
    write: Callable[..., None] = Checkpoints.write
    where = "whole"

    def write_then_stop(self: Checkpoints, step: int, state: dict[str, Any]) -> None:
        states[where].append(copy.deepcopy(state))
        write(self, step, state)
        random.random(), np.random.rand(), torch.rand(1)
        if where == "part" and len(states[where]) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "write", write_then_stop)
    whole = evaluate_finetune(config(images, tmp_path / "whole", preset=preset, workers=1)).entry
    where = "part"
    with pytest.raises(KeyboardInterrupt):
        evaluate_finetune(config(images, tmp_path / "part", preset=preset, workers=3))
    rest = evaluate_finetune(config(images, tmp_path / "part", preset=preset, workers=2)).entry
    assert rest["value"] == whole["value"]
    flat = [torch.cat([one.flatten().double() for one in _tensors(states[name][-1])]) for name in states]
    assert torch.equal(*flat)
    protocol = whole["protocol"]
    assert protocol["preset"] == preset and protocol["train_images"] == 36 and protocol["train"] == "its train/ folder"
    assert protocol["augmentation"].endswith("RandAugment (timm's rand-m9-mstd0.5-inc1), random erasing 0.25")
    assert protocol["test_transform"] == f"Resize({18 if preset == 'mae' else 17}, bicubic) -> CenterCrop(16)"
    assert ("moving average" in protocol["reported"]) == (preset == "synclr")


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for key in sorted(state, key=str):
            yield from _tensors(state[key])
    elif isinstance(state, (list, tuple)):
        for one in state:
            yield from _tensors(one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mae", "batch_size": 7}, r"^batch_size 7: preset mae mixes images by twos; wanted an even number"),
        ({"preset": "vissl", "labels": "10%", "drop_path": 0.1}, r"^drop_path: preset vissl has none"),
        ({"preset": "vissl"}, r"^labels or subset: give exactly one"),
        ({"preset": "mae", "labels": "10%", "subset": Path("x")}, r"^labels or subset: give exactly one"),
    ],
)
def test_settings_that_do_not_agree(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, tmp_path, **options)
