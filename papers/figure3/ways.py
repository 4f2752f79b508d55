"""The step that HL's Figure 3 trains, the sets that it is fed from, and the ways in which its batches come."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.settings import config, setting

FIELDS = ("anchor", "positive", "index")
LATENT, SHARDS = 128, 8
PICTURES = 64  # different images of a set, over and over
PNG_PAIRS = 2000  # at most, as files
BATCH_SIZES = (32, 64, 128, 256)


def _positive(default: float, help: str) -> Any:
    return setting(default=default, above=0, show_range=False, help=help)


@config
class Figure3Config:
    """Settings of the study; the defaults are HL's, but for generator and device."""

    gen: str = setting(default="stylegan2_fashion", help="Generator, named as for genrep-generate.")
    views: str | None = setting(default=None, help="Latent view of the online pairs.  [default: the recipe's]")
    batch_sizes: tuple[int, ...] = setting(
        default=BATCH_SIZES,
        least=2,
        most=PNG_PAIRS,
        flags="--batch-size",
        show_default=True,
        help="Pairs per update on each device. May be repeated.",
    )
    step: bool = setting(default=True, negatable=True, help="Train on the batches, or only load them.  [default: step]")
    images: int = _positive(126_789, "Pairs per epoch.")
    epochs: int = _positive(20, "Number of epochs to report CO2 for.")
    seconds: float = _positive(4.0, "Seconds per turn of a loader.")
    rounds: int = _positive(3, "Number of turns of each loader.")
    workers: int = _positive(8, "Number of processes or threads of each file loader.")
    device: str = setting(default="cpu", text=True, help="Device to train on: cpu or cuda.")
    devices: int | None = setting(
        default=None, least=1, help="Number of devices that train together.  [default: all GPUs, or one CPU]"
    )
    co2: bool | None = setting(default=None, help="Estimate CO2 emissions.  [default: where codecarbon is installed]")
    country: str = setting(default="USA", text=True, help="Country of the electricity, as a three-letter ISO code.")
    out: Path | None = setting(default=None, help="JSON file for the numbers and settings.  [default: none is written]")


@dataclass(frozen=True, kw_only=True)
class Study:
    """The settings of one process's measurements."""

    gen: str
    views: str | None
    device: str
    devices: int  # that train together, each on batches of its own
    step: bool
    seconds: float
    rounds: int
    workers: int  # of each loader of files, on each device
    images: int  # pairs of an epoch
    epochs: int  # that CO2 is told of
    country: str | None  # None: no CO2
    rank: int = 0  # of this process among the devices


class SimclrUpdates:
    """Updates of SimCLR at up to 112 px."""

    def __init__(self, shape: tuple[int, int], study: Study) -> None:
        import torch

        from genrep.encoders import EMBEDDING_DIM, Projector, build_encoder

        self.shape, self.crop, self.device = shape, min(112, *shape), torch.device(study.device)
        encoder = build_encoder("resnet18", "imagenet", 0)
        projector = Projector(encoder.width, EMBEDDING_DIM, 0)
        model = torch.nn.Sequential(encoder, projector).to(self.device)
        self.model: torch.nn.Module = model.to(memory_format=torch.channels_last)
        if study.devices > 1:
            device_ids = [self.device] if self.device.type == "cuda" else None
            self.model = torch.nn.parallel.DistributedDataParallel(self.model, device_ids=device_ids)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)

    def __call__(self, anchor: Any, positive: Any, index: Any) -> None:
        """One update."""
        import torch

        from genrep.infonce import info_nce
        from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS
        from genrep.pixel_views.apply import apply_views
        from genrep.pixel_views.parameters import draw

        twice, view = np.concatenate([index, index]), np.repeat([0, 1], len(index))
        keys: dict[str, Any] = {"seed": 0, "epoch": 0, "index": twice, "view": view}
        parameters = draw(PIXEL_VIEWS["simclr"], **keys, image_shape=self.shape, size=self.crop)
        images = apply_views(torch.cat([anchor, positive]), parameters, self.crop, IMAGENET_MEAN, IMAGENET_STD)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            embeddings = self.model(images)
        anchors, positives = embeddings.float().chunk(2)
        loss = info_nce(anchors, positives, 0.1)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


class PngPairs:
    """For a torch DataLoader: anchor and positive of PNG files, as uint8 tensors."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(map(str, folder.iterdir()))

    def __len__(self) -> int:
        return len(self.paths) // 2

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        import torch
        from PIL import Image

        views = []
        for path in self.paths[2 * i : 2 * i + 2]:
            with Image.open(path) as file:
                views.append(torch.from_numpy(np.array(file.convert("RGB"))))
        return (*views, i % 10, i)


def write_sets(root: Path, images: NDArray[np.uint8], encoding: str, count: int) -> None:
    """The same pairs as a dataset of shards, ``one.beton``, and PNG files (two a pair, up to ``PNG_PAIRS``).

    ``images``: uint8, shape ``(PICTURES, height, width, 3)``.
    """
    from PIL import Image

    from genrep.datasets_manifest import Shard, build_manifest, field_table, shard_name, write_manifest
    from genrep.generate.build.shard import ShardWriter
    from genrep.generate.plans.build_plan import page_size
    from genrep.generate.sources.base import Batch

    table = field_table(images.shape[1:3], encoding, num_positives=1, z_anchor=[LATENT])

    def write(path: Path, first: int, size: int) -> dict[str, Any]:
        with ShardWriter(path, table, size, page_size(table)) as writer:
            for start in range(first, first + size, 500):
                index = np.arange(start, min(start + 500, first + size))
                z = np.repeat(index[:, None], LATENT, axis=1).astype(np.float32)
                views = [images[index % PICTURES], images[(index + 1) % PICTURES]]
                writer.append(Batch(indices=index, labels=index % 10, images=views, latents=[z, z]))
            return writer.finish()

    folder, per_shard = root / "shards", count // SHARDS
    folder.mkdir()
    shards = []
    for k in range(SHARDS):
        facts = write(folder / shard_name(k), k * per_shard, per_shard)
        shards.append(Shard(name=shard_name(k), first_index=k * per_shard, count=per_shard, **facts))
    recipe = {"num_pairs": count, "pairs_per_shard": per_shard, "seed": 0}
    write_manifest(folder, build_manifest(recipe, table, [str(k) for k in range(10)], shards, {}))
    write(root / "one.beton", 0, count)
    (root / "png").mkdir()
    for i in range(min(count, PNG_PAIRS)):
        for view in range(2):
            Image.fromarray(images[(i + view) % PICTURES]).save(root / f"png/{i:06}_{view}.png")


def png(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """torch's ``DataLoader``, over files that the page cache holds."""
    from torch.utils.data import ConcatDataset, DataLoader

    pairs: Any = PngPairs(root / "png")
    data: Any = ConcatDataset([pairs] * 4)
    pinned = study.device.startswith("cuda")
    settings: dict[str, Any] = {"num_workers": study.workers, "persistent_workers": True, "pin_memory": pinned}
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, **settings)


def ffcv(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """FFCV's ``Loader``."""
    from ffcv.loader import Loader, OrderOption

    unread = dict.fromkeys(("z_anchor", "z_positive", "label"))
    settings: dict[str, Any] = {"order": OrderOption.RANDOM, "seed": study.rank, "os_cache": True, "pipelines": unread}
    return Loader(str(root / "one.beton"), batch_size=batch_size, num_workers=study.workers, **settings)


def ours(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """``PairLoader``."""
    from genrep.train import PairLoader

    settings: dict[str, Any] = {"workers": study.workers, "pin_memory": study.device.startswith("cuda")}
    settings |= {"rank": study.rank, "world_size": study.devices}
    return PairLoader(root / "shards", batch_size=batch_size * study.devices, fields=FIELDS, drop_last=True, **settings)


def online(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """``OnlineLoader``."""
    from genrep.across import open_online
    from genrep.train.data.online import OnlineLoader

    source = open_online(study.gen, views=study.views, device=study.device)
    settings: dict[str, Any] = {"rank": study.rank, "world_size": study.devices}
    return OnlineLoader(source, batch_size=batch_size * study.devices, steps_per_epoch=1000, fields=FIELDS, **settings)


# PNG first: its workers are forked before the others have threads.
WAYS: tuple[Callable[[Path, int, Study], Iterable[Any]], ...] = (png, ffcv, ours, online)


def ffcv_installed() -> bool:
    """Whether FFCV itself is installed, the one loader that this project does not require."""
    return importlib.util.find_spec("ffcv") is not None
