"""Images of several sizes in one run: cut from whole pictures, by the views' own draws, the same whoever reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.cli import invoke
from genrep.errors import DataError, DatasetError
from genrep.generate.build.from_folder import FolderConfig, build_from_folder
from genrep.pixel_views import PIXEL_VIEWS
from genrep.pixel_views.parameters import draw
from genrep.runs.processes import Processes
from genrep.train import PairLoader, TrainConfig, train
from genrep.train.cli import command
from genrep.train.data.outputs import Crops
from genrep.train.data.sets import open_sets
from genrep.train.engine import run as run_module
from genrep.train.engine.samples import open_samples
from genrep.train.engine.trainer import EncoderTrainer
from genrep.train.engine.training_plan import resolve

MakeDataset = Callable[..., Path]
CROPS = Crops(views=PIXEL_VIEWS["simclr"], seed=3, size=12, num_views=2)
SIZES = ((30, 44), (40, 24), (26, 70), (24, 24), (31, 33), (24, 90))


def photo(k: int) -> np.ndarray:
    height, width = SIZES[k % len(SIZES)]
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(0.2 * x + 0.1 * (k + 1) * y + phase) for phase in (0, 1, 2)]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen pictures of six shapes, in three classes."""
    folder = tmp_path_factory.mktemp("sizes") / "photos"
    for k in range(18):
        path = folder / "abc"[k // 6] / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(k)).save(path)
    return folder


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``whole(encoding)``: the pictures as shards, at their own sizes but for the largest."""
    root = tmp_path_factory.mktemp("whole")

    def make(encoding: str = "raw") -> Path:
        out = root / encoding.replace(":", "-")
        if not out.exists():
            build_from_folder(
                FolderConfig(data=str(photos), out=out, shorter_side=32, encoding=encoding, processes=1, shard_size="7")
            )
        return out

    return make


def by_index(loader: PairLoader) -> dict[int, dict[str, torch.Tensor]]:
    found = {}
    for batch in loader:
        for i, index in enumerate(batch["index"].tolist()):
            assert index not in found
            found[index] = {name: values[i] for name, values in batch.items()}
    return found


def wanted_cut(pixels: np.ndarray, views: str, seed: int, epoch: int, index: int, view: int, size: int) -> np.ndarray:
    """A cut as torchvision would make it, of the parameters that are drawn for a picture alone."""
    from torchvision.transforms.v2.functional import resized_crop

    p = draw(
        PIXEL_VIEWS[views],
        seed=seed,
        epoch=epoch,
        index=np.array([index]),
        view=np.array([view]),
        image_shape=pixels.shape[:2],
        size=min(pixels.shape[:2]),
    )
    box = [int(values[0]) for values in (p.top, p.left, p.height, p.width)]
    return np.asarray(resized_crop(Image.fromarray(pixels), *box, [size, size], antialias=True))


@pytest.mark.parametrize("encoding", ["raw", "jpeg:100:444"])
@pytest.mark.parametrize("views", ["simclr", "no-crop"])
def test_cuts_are_torchvisions_of_each_whole_picture(whole: Any, encoding: str, views: str) -> None:
    crops = Crops(views=PIXEL_VIEWS[views], seed=3, size=12, num_views=2)
    loader = PairLoader(whole(encoding), batch_size=5, positive="anchor", crops=crops, workers=2)
    found = {}
    for _ in range(2):
        epoch = loader.epoch
        found = by_index(loader)
        for index, sample in found.items():
            assert sample["anchor"].shape == (2, 12, 12, 3)
            pixels = np.asarray(Image.fromarray(photo(index)))
            if min(pixels.shape[:2]) > 32:
                continue
            for view in (0, 1):
                wanted = wanted_cut(pixels, views, 3, epoch, index, view, 12)
                difference = np.abs(sample["anchor"][view].numpy().astype(int) - wanted)
                assert difference.max() <= (0 if encoding == "raw" else 12)
    assert len(found) == 18


def test_a_folder_gives_what_its_shards_give(photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    build_from_folder(FolderConfig(data=str(photos), out=shards, shorter_side=64, encoding="raw", processes=1))
    found, wanted = (
        by_index(PairLoader(data, batch_size=4, positive="anchor", crops=CROPS)) for data in (photos, shards)
    )
    assert sorted(found) == list(range(18))
    for index, sample in found.items():
        assert all(torch.equal(sample[name], wanted[index][name]) for name in ("anchor", "label"))


def test_cuts_do_not_depend_on_ranks_workers_batches_or_a_resume(whole: Any) -> None:
    options: dict[str, Any] = {"seed": 5, "positive": "anchor", "crops": CROPS}
    wanted = by_index(PairLoader(whole(), batch_size=6, **options))
    ranks = [by_index(PairLoader(whole(), batch_size=4, rank=k, world_size=2, workers=3, **options)) for k in (0, 1)]
    assert sorted(ranks[0].keys() | ranks[1].keys()) == list(range(18)) and not ranks[0].keys() & ranks[1].keys()
    begun, resumed = (PairLoader(whole(), batch_size=5, **options) for _ in range(2))
    iterator = iter(begun)
    next(iterator)
    resumed.load_state_dict(begun.state_dict())
    for part in (*ranks, by_index(resumed)):
        for index, sample in part.items():
            assert torch.equal(sample["anchor"], wanted[index]["anchor"])


def test_sets_of_two_sizes_are_cut_alike(dataset: MakeDataset, whole: Any) -> None:
    """Pairs of 16 and of 24 px, and whole pictures: each by its own size, positives by view 1."""
    folders = [dataset(), dataset(encoding="jpeg:95", size=24, positives=3), whole()]
    with pytest.raises(DatasetError, match=r"size=24: images of 24 x 24, those of .* are 16 x 16$"):
        PairLoader(folders[:2], batch_size=4)
    found = by_index(
        PairLoader(folders, batch_size=7, positive="stored", crops=CROPS, fields=("anchor", "positive", "index"))
    )
    assert len(found) == 98
    alone = by_index(PairLoader(dataset(), batch_size=4, positive="stored"))
    for index, sample in alone.items():
        for view, name in enumerate(("anchor", "positive")):
            wanted = wanted_cut(sample[name].numpy(), "simclr", 3, 0, index, view, 12)
            assert np.array_equal(found[index][name], wanted)
    assert not torch.equal(found[97]["anchor"], found[97]["positive"])  # two views of a lone anchor
    stacked = by_index(
        PairLoader(folders[1], batch_size=7, positive="all", crops=CROPS, fields=("anchor", "positive", "index"))
    )
    assert stacked[0]["positive"].shape == (3, 12, 12, 3)
    drawn = PairLoader(folders[1], batch_size=7, positive="random", crops=CROPS, fields=("positive", "index"))
    assert by_index(drawn)[0]["positive"].shape == (12, 12, 3)


def config(data: Any, out: Path, **options: Any) -> TrainConfig:
    defaults = {"batch_size": 4, "epochs": 2, "lr": 0.5, "device": "cpu", "precision": "fp32", "log_every": 1}
    return TrainConfig(**{"data": data, "out": out, **defaults, **options})


def test_the_networks_input_is_that_of_images_of_one_size(dataset: MakeDataset, tmp_path: Path) -> None:
    """Cut by the loader or on the device, a view is the same up to the rounding to 8 bits and two bilinear filters'."""
    plan = resolve(config(dataset(), tmp_path, batch_size=8, crop=16, positive="anchor", pixel_views="simclr"))
    facts = open_samples(plan.config, torch.device("cpu")).facts
    trainer = EncoderTrainer(plan, facts, Processes(device=torch.device("cpu"), rank=0, size=1))
    options: dict[str, Any] = {"batch_size": 8, "fields": ("anchor", "index"), "positive": "anchor"}
    one = trainer.images(next(iter(PairLoader(dataset(), **options))), 0)
    crops = Crops(views=trainer.laws.views[0], seed=plan.config.seed, size=16, num_views=2)
    cut = next(iter(PairLoader(dataset(), crops=crops, **options)))
    trainer.plan = resolve(config(dataset(), tmp_path, batch_size=8, crop=16, positive="anchor"))
    object.__setattr__(trainer.plan, "image_shape", None)
    other = trainer.images(cut, 0)
    assert one.shape == other.shape == (16, 3, 16, 16)
    difference = (one - other).abs() * 0.226 * 255  # levels
    assert difference.mean() < 1
    assert difference.max() < 25  # the hue turns far where a colour is nearly gray


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_real_pictures_and_smaller_generated_images_train_together_and_a_resume_changes_nothing(
    dataset: MakeDataset, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (whole(), dataset())
    run = train(config(both, tmp_path / "whole", mix=0.5, checkpoint_minutes=1e-9))
    assert run.plan.image_shape is None
    assert (run.plan.crop, run.plan.num_pairs, run.plan.total_steps) == (16, 18, 8)  # the median shorter side
    assert json.loads((tmp_path / "whole/config.json").read_text())["image_shape"] is None
    original = EncoderTrainer.train_step

    def train_step(self: EncoderTrainer, *arguments: Any) -> Any:
        if self.step == 5:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module.EncoderTrainer, "train_step", train_step)
        train(config(both, tmp_path / "cut", mix=0.5, checkpoint_minutes=1e-9))
    train(config(both, tmp_path / "cut", mix=0.5, checkpoint_minutes=1e-9, workers=3))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert len(set(losses(tmp_path / "whole"))) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--pixel-views", "none", "--objective", "classifier"], ["--pixel-views", "no-crop"]]
)
def test_without_a_crop_the_largest_central_squares_are_taken(
    photos: Path, dataset: MakeDataset, tmp_path: Path, options: list[str]
) -> None:
    data = ["--data", str(photos), "--data", str(dataset())]
    arguments = [*data, "--out", str(tmp_path), "--batch-size", "8", "--steps", "2", "--device", "cpu", *options]
    assert invoke(command, arguments) == 0
    assert json.loads((tmp_path / "config.json").read_text())["crop"] == 16


def test_a_size_cuts_whole_pictures_to_it_as_from_folder_does(photos: Path, whole: Any, tmp_path: Path) -> None:
    build_from_folder(FolderConfig(data=str(photos), out=tmp_path / "16", size="16", encoding="raw", processes=1))
    wanted = by_index(PairLoader(tmp_path / "16", batch_size=4))
    for data in (photos, whole()):
        loader = PairLoader(data, batch_size=4, size=16)
        assert loader.sets.shape == (16, 16, 3)
        for index, sample in by_index(loader).items():
            if data == photos or min(SIZES[index % 6]) <= 32:
                assert torch.equal(sample["anchor"], wanted[index]["anchor"])
    assert PairLoader(whole(), batch_size=4, size=16).state_dict()["dataset_id"].endswith("-fitted-16x16")


def test_a_folder_of_one_size_is_as_it_was(tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(np.full((20, 30, 3), k, dtype=np.uint8)).save(tmp_path / f"{k}.png")
    assert open_sets(tmp_path, whole=True).shape == (20, 30, 3)
    found = by_index(PairLoader(tmp_path, batch_size=2, fields=("anchor", "index")))
    assert [sample["anchor"].unique().tolist() for _, sample in sorted(found.items())] == [[0], [1], [2]]


def test_a_picture_that_changes_its_size_is_named(photos: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(photos, tmp_path / "photos")
    loader = PairLoader(tmp_path / "photos", batch_size=4, positive="anchor", crops=CROPS)
    Image.new("RGB", (50, 50)).save(tmp_path / "photos/b/07.png")
    with pytest.raises(DataError, match=r"b/07\.png: 50 x 50, it was 40 x 24 when the run began"):
        by_index(loader)


def test_a_damaged_jpeg_of_a_whole_picture_is_named(whole: Any, tmp_path: Path) -> None:
    import shutil

    from genrep.datasets_manifest import read_manifest
    from genrep.datasets_manifest.beton import Beton

    folder = tmp_path / "damaged"
    shutil.copytree(whole("jpeg:100:444"), folder)
    manifest = read_manifest(folder)
    shard = manifest.shards[1]
    with Beton(folder / shard.name, manifest.fields, shard.count, shard.first_index) as beton:
        pointer = int(beton.samples["anchor"][2]["data_ptr"])
    data = bytearray((folder / shard.name).read_bytes())
    data[pointer : pointer + 4] = b"\0" * 4
    (folder / shard.name).write_bytes(data)
    loader = PairLoader(folder, batch_size=4, positive="anchor", crops=CROPS)
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: sample 2: anchor, at byte \d+, is not a JPEG"):
        by_index(loader)
