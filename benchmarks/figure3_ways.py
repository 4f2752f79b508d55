"""The step that HL's Figure 3 trains, and the ways in which its batches come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FIELDS = ("anchor", "positive", "index")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is measured."""

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


class Step:
    """Updates of SimCLR at up to 112 px."""

    def __init__(self, shape: tuple[int, int], study: Study) -> None:
        import torch

        from genrep.encoders import ARCHS, EMBEDDING_DIM, Projector, build_encoder

        self.shape, self.crop, self.device = shape, min(112, *shape), torch.device(study.device)
        encoder, projector = build_encoder("resnet18", "imagenet", 0), Projector(ARCHS["resnet18"], EMBEDDING_DIM, 0)
        self.model = torch.nn.Sequential(encoder, projector).to(self.device, memory_format=torch.channels_last)
        if study.devices > 1:
            device_ids = [self.device] if self.device.type == "cuda" else None
            self.model = torch.nn.parallel.DistributedDataParallel(self.model, device_ids=device_ids)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)

    def __call__(self, anchor: Any, positive: Any, index: Any) -> None:
        import torch

        from genrep.infonce import info_nce
        from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS
        from genrep.pixel_views.apply import apply_views
        from genrep.pixel_views.parameters import draw

        twice, view = np.concatenate([index, index]), np.repeat([0, 1], len(index))
        keys = {"seed": 0, "epoch": 0, "index": twice, "view": view}
        parameters = draw(PIXEL_VIEWS["simclr"], **keys, image_shape=self.shape, size=self.crop)
        images = apply_views(torch.cat([anchor, positive]), parameters, self.crop, IMAGENET_MEAN, IMAGENET_STD)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            embeddings = self.model(images)
        loss = info_nce(*embeddings.float().chunk(2), 0.1)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def png(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """torch's ``DataLoader``, over files that the page cache holds."""
    from loading import PngPairs
    from torch.utils.data import ConcatDataset, DataLoader

    data: Any = ConcatDataset([PngPairs(root / "png")] * 4)
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


WAYS = (png, ffcv, ours, online)  # PNG first: its workers are forked before the others have threads
