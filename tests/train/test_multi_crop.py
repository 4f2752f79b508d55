"""Global views of several laws and local crops: each a function of (seed, epoch, index, view) and of its own image alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.errors import ConfigError, GenRepError, TrainingError
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, local_view, view_laws
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw
from genrep.runs.processes import Processes
from genrep.train import TrainConfig
from genrep.train.engine.samples import open_samples
from genrep.train.engine.trainer import EncoderTrainer
from genrep.train.engine.training_plan import resolve
from genrep.train.objectives import OBJECTIVES, Setup
from genrep.train.objectives.base import LOCAL_CROPS, Objective, Output, unit

MakeDataset = Callable[..., Path]
CPU = torch.device("cpu")


class Crops(Objective):
    """Looks at everything, and remembers it."""

    name = "crops"
    num_views = 2
    takes_local_crops = True

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup, self.num_views = setup, setup.num_views
        self.seen: dict[str, torch.Tensor] = {}

    def loss(self, encoder: Any, images: torch.Tensor, batch: dict[str, torch.Tensor], step: int) -> Output:
        self.seen = {"global": images, **({"local": batch[LOCAL_CROPS]} if LOCAL_CROPS in batch else {})}
        z = unit(encoder(images)).unflatten(0, (self.num_views, -1))
        return Output((z[0] - z[1]).square().sum(), {}, z.detach())


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(OBJECTIVES, "crops", ("tests_of_crops.of_a_lab", "Crops"))
    monkeypatch.setitem(sys.modules, "tests_of_crops.of_a_lab", sys.modules[__name__])


def opened(data: Path, out: Path, rank: int = 0, size: int = 1, **options: Any) -> tuple[EncoderTrainer, Any]:
    """A trainer, and its loader."""
    given = {"arch": "resnet18:width=2", "stem": "cifar", "objective": "crops", "pixel_views": "dino", "local_crops": 3}
    config = TrainConfig(**{"data": data, "out": out, "batch_size": 8, "device": "cpu", **given, **options})
    samples = open_samples(config, CPU)
    plan = resolve(config, samples.facts, CPU, size)
    place = Processes(device=CPU, rank=rank, size=size)
    trainer = EncoderTrainer(plan, samples.facts, Processes(device=CPU))
    return trainer, samples.loader(plan.config, plan.num_views, trainer.fields, place.rank, place.size)


def seen(trainer: EncoderTrainer, batch: dict[str, Any], epoch: int) -> dict[str, torch.Tensor]:
    trainer._gradients(dict(batch), epoch, 1)
    objective = trainer.objective
    assert isinstance(objective, Crops)
    views, crops = objective.num_views, trainer.plan.config.local_crops
    found = {"global": objective.seen["global"].unflatten(0, (views, -1))}
    if crops:
        found["local"] = objective.seen["local"].unflatten(0, (crops, views, -1))
    return found


@pytest.mark.parametrize("positive", ["anchor", "stored", "all"])
def test_every_view_and_crop_is_of_its_image_alone(dataset: MakeDataset, tmp_path: Path, positive: str) -> None:
    trainer, loader = opened(dataset(positives=2), tmp_path, positive=positive, seed=5)
    laws = view_laws("dino")
    batch = next(iter(loader))
    found = seen(trainer, batch, 3)
    views = {"anchor": 2, "stored": 2, "all": 3}[positive]
    assert found["global"].shape == (views, 8, 3, 16, 16) and found["local"].shape == (3, views, 8, 3, 7, 7)
    for view in range(views):
        pictures = batch["anchor"]
        if view and positive != "anchor":
            pictures = batch["positive"][:, view - 1] if positive == "all" else batch["positive"]
        for i in (0, 5):
            keys = {"seed": 5, "epoch": 3, "index": batch["index"][i : i + 1].numpy(), "image_shape": (16, 16)}
            alone = draw(laws.views[view % 2], view=np.array([view]), size=16, **keys)
            wanted = apply_views(pictures[i : i + 1], alone, 16, IMAGENET_MEAN, IMAGENET_STD)
            torch.testing.assert_close(found["global"][view, i], wanted[0], atol=1e-6, rtol=0)
            for crop in range(3):
                alone = draw(laws.local, view=np.array([view + 256 * (crop + 1)]), size=7, **keys)
                wanted = apply_views(pictures[i : i + 1], alone, 7, IMAGENET_MEAN, IMAGENET_STD)
                torch.testing.assert_close(found["local"][crop, view, i], wanted[0], atol=1e-6, rtol=0)


def by_index(trainer: EncoderTrainer, loader: Any) -> dict[int, torch.Tensor]:
    made, epoch = {}, loader.epoch
    for batch in loader:
        found = seen(trainer, batch, epoch)
        for i, index in enumerate(batch["index"].tolist()):
            made[index] = torch.cat([found["global"][:, i].flatten(), found["local"][:, :, i].flatten()])
    return made


def test_the_same_bits_on_two_processes_and_after_a_resume(dataset: MakeDataset, tmp_path: Path) -> None:
    data = dataset(positives=2)
    trainer, loader = opened(data, tmp_path, positive="all")
    wanted = by_index(trainer, loader)
    halves = [by_index(*opened(data, tmp_path, rank, 2, positive="all")) for rank in (0, 1)]
    assert not halves[0].keys() & halves[1].keys() and (halves[0] | halves[1]).keys() == wanted.keys()
    for found in halves:
        for index, values in found.items():
            assert torch.equal(values, wanted[index])
    trainer, loader = opened(data, tmp_path, positive="all")
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    trainer, loader = opened(data, tmp_path, positive="all", batch_size=4)
    loader.load_state_dict(state)
    rest = by_index(trainer, loader)
    assert len(rest) == 32 and all(torch.equal(values, wanted[index]) for index, values in rest.items())


def test_one_law_is_drawn_as_ever(dataset: MakeDataset, tmp_path: Path) -> None:
    """Local crops take nothing from the global views, whose numbers a run without crops draws."""
    data = dataset()
    trainer, loader = opened(data, tmp_path, pixel_views="simclr")
    without, _ = opened(data, tmp_path, pixel_views="simclr", local_crops=0)
    batch = next(iter(loader))
    assert torch.equal(seen(trainer, batch, 1)["global"], seen(without, batch, 1)["global"])


@pytest.mark.parametrize("positive", ["anchor", None])
def test_pictures_of_several_sizes_are_cut_from_the_whole(tmp_path: Path, positive: str | None) -> None:
    folder = tmp_path / "photos/all"
    folder.mkdir(parents=True)
    shapes = [(30, 44), (40, 24), (26, 70), (24, 24)]
    for k in range(8):
        y, x = np.mgrid[: shapes[k % 4][0], : shapes[k % 4][1]]
        waves = [128 + 90 * np.sin(0.2 * x + 0.1 * (k + 1) * y + phase) for phase in (0, 1, 2)]
        Image.fromarray(np.stack(waves, axis=2).astype(np.uint8)).save(folder / f"{k}.png")
    options = {"positive": positive, "local_crops": 2, "crop": 14, "pixel_views": "no-color", "batch_size": 4}
    trainer, loader = opened(tmp_path / "photos", tmp_path / "out", **options)
    laws = view_laws("no-color")
    for batch in loader:
        found = seen(trainer, batch, 0)
        for i, index in enumerate(batch["index"].tolist()):
            pixels = torch.from_numpy(np.asarray(Image.open(folder / f"{index}.png")).copy())[None]
            keys = {"seed": 0, "epoch": 0, "index": np.array([index]), "image_shape": tuple(pixels.shape[1:3])}
            for crop in range(2):
                for view in range(2):
                    alone = draw(laws.local, view=np.array([local_view(view, crop)]), size=6, **keys)
                    wanted = apply_views(pixels, alone, 6, IMAGENET_MEAN, IMAGENET_STD)[0]
                    difference = (found["local"][crop, view, i] - wanted).abs().max() * 255 * 0.23
                    assert difference < 1.1  # a cut is rounded to 8 bits


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"objective": "simclr"}, TrainingError, "local_crops 3: objective simclr has no use for them"),
        ({"local_crops": 0, "local_size": 8}, ConfigError, "local_size 8: requires local_crops"),
        ({"crop_scale": (0.5, 0.2)}, ConfigError, r"crop_scale 0.5,0.2: wanted two parts of an image's area"),
        ({"local_scale": (0.5, 1.2)}, ConfigError, r"local_scale 0.5,1.2: wanted two parts"),
        ({"pixel_views": "dinosaur"}, ConfigError, "pixel_views 'dinosaur': wanted one of .*dino"),
    ],
)
def test_settings_that_do_not_fit(
    dataset: MakeDataset, tmp_path: Path, options: dict[str, Any], kind: type[GenRepError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        opened(dataset(), tmp_path, **options)


def test_local_crops_of_a_transformer_are_of_whole_patches(dataset: MakeDataset, tmp_path: Path) -> None:
    options = {"arch": "vit_tiny_patch16_224:width=16,depth=1,heads=2", "stem": "imagenet", "patch_size": 4}
    trainer, _ = opened(dataset(), tmp_path, **options)
    assert trainer.plan.config.local_size == 8  # 3/7 of 16 is 6.9
    config = replace(trainer.plan.config, crop=224, local_size=None, patch_size=None)
    from genrep.train.engine.training_plan import _local_size

    assert _local_size(config, 224) == 96
