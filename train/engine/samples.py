"""The samples of a run: stored ones, or ones made during training. The trainer sees no difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from genrep.across import OnlineSource, open_online
from genrep.errors import renamed
from genrep.images.inventory import Inventory

from ..config import TrainConfig
from ..data.fields import VARYING
from ..data.folder_images import FolderImages
from ..data.loader import Batch, PairLoader, default_workers
from ..data.online import OnlineLoader
from ..data.outputs import Crops, LocalCrops, families
from ..data.sets import Sets, open_sets

ONLINE_OPTIONS = (  # settings that are called alike here and by a build of datasets
    *("views", "weights", "seed", "filter", "weigh", "num_positives", "classes", "truncation", "features"),
    *("prompts", "anchors", "root", "download", "split", "guidance"),
)


@dataclass(frozen=True, kw_only=True)
class SampleFacts:
    """The facts of its samples that a run needs."""

    identity: str  # of the content
    image_shape: tuple[int, int] | None  # height, width; None: images of several sizes, which the loader cuts to one
    shorter_side: int  # of an image, in pixels; where they vary, the median
    num_positives: int  # for each anchor
    labels: tuple[int, ...]  # that samples have, -1 aside
    latent_shape: tuple[int, ...] | None  # of z_anchor
    count: int  # samples of an epoch, before --limit
    fields: frozenset[str] = frozenset()  # that batches can hold
    floats: tuple[str, ...] = ()  # fields of a number with a fraction
    of_positives: frozenset[str] = frozenset()  # fields that each positive has its own of


class Loader(Protocol):
    """Batches of this process, from a cursor on; see ``PairLoader``."""

    epoch: int

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Samples(Protocol):
    """Where batches come from."""

    facts: SampleFacts
    inventories: list[Inventory]  # of image folders

    def loader(self, config: TrainConfig, num_views: int, fields: tuple[str, ...], rank: int, size: int) -> Loader:
        """Batches with these fields, for one of ``size`` processes; ``config`` is a plan's, with every setting settled."""
        ...


class StoredSamples:
    """Datasets and image folders."""

    def __init__(self, sets: Sets, *, mixed: bool) -> None:
        self.sets = sets
        self.inventories = [part.inventory for part in sets.parts if isinstance(part, FolderImages)]
        latents = sets.fields.get("z_anchor")
        self.facts = SampleFacts(
            identity=sets.identity,
            image_shape=None if sets.shape == VARYING else (sets.shape[0], sets.shape[1]),
            shorter_side=sets.shorter_side,
            num_positives=sets.num_positives,
            labels=sets.labels,
            latent_shape=None if latents is None else latents.shape,
            count=len(sets.parts[0]) if mixed else len(sets),
            fields=frozenset(sets.fields),
            floats=sets.floats,
            of_positives=frozenset(sets.of_positives),
        )

    def loader(self, config: TrainConfig, num_views: int, fields: tuple[str, ...], rank: int, size: int) -> PairLoader:
        """See ``Samples.loader``."""
        assert config.positive is not None and config.crop is not None
        crops = None
        if self.facts.image_shape is None:
            crops = _crops(config, num_views)
        return PairLoader(
            self.sets,
            batch_size=config.batch_size,
            seed=config.seed,
            fields=fields,
            positive=config.positive,
            mix=config.mix,
            limit=config.limit,
            crops=crops,
            shuffle_window=config.shuffle_window,
            rank=rank,
            world_size=size,
            drop_last=True,
            workers=config.workers or default_workers(),
            pin_memory=torch.cuda.is_available() and config.device != "cpu",
        )


def _crops(config: TrainConfig, num_views: int) -> Crops:
    """How pictures of several sizes are cut: the global views' laws differ in nothing that cutting sees."""
    assert config.crop is not None
    laws, local = config.laws_of_views(), None
    if config.local_crops:
        assert config.local_size is not None
        local = LocalCrops(views=laws.local, size=config.local_size, number=config.local_crops)
    return Crops(views=laws.views[0], seed=config.seed, size=config.crop, num_views=num_views, local=local)


class OnlineSamples:
    """A generator on the device that trains (HL, section 4.1)."""

    def __init__(self, source: OnlineSource, steps_per_epoch: int, batch_size: int) -> None:
        self.source = source
        self.inventories: list[Inventory] = []
        self.facts = SampleFacts(
            identity=source.identity,
            image_shape=source.image_shape,
            shorter_side=min(source.image_shape),
            num_positives=source.num_positives,
            labels=source.labels,
            latent_shape=source.latent_shape if "z_anchor" in source.fields else None,
            count=steps_per_epoch * batch_size,
            fields=frozenset(source.fields),
            floats=source.floats,
            of_positives=frozenset(families(source.fields, source.num_positives)),
        )

    def loader(
        self, config: TrainConfig, num_views: int, fields: tuple[str, ...], rank: int, size: int
    ) -> OnlineLoader:
        """See ``Samples.loader``."""
        assert config.positive is not None and config.steps_per_epoch is not None
        return OnlineLoader(
            self.source,
            batch_size=config.batch_size,
            steps_per_epoch=config.steps_per_epoch,
            seed=config.seed,
            fields=fields,
            positive=config.positive,
            rank=rank,
            world_size=size,
        )


def open_samples(config: TrainConfig, device: torch.device) -> Samples:
    """Open what the config names.

    Raises:
        GenRepError: it is missing, unfinished or damaged, or the generator cannot be read.
    """
    if config.online:
        assert config.gen is not None and config.steps_per_epoch is not None
        options = {name: getattr(config, name) for name in ONLINE_OPTIONS}
        with renamed(steps="sampler_steps"):
            source = open_online(config.gen, steps=config.sampler_steps, device=device, **options)
        return OnlineSamples(source, config.steps_per_epoch, config.batch_size)
    sets = open_sets(config.folders, partial=config.partial, size=config.image_size, whole=True)
    return StoredSamples(sets, mixed=config.mix is not None)
