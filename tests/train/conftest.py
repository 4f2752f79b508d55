"""Tiny datasets whose content is a formula of the index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from genrep.datasets_manifest import Shard, build_manifest, field_table, shard_name, write_manifest, write_shard_record
from genrep.files import sha256_file

LATENT = 5


def image_of(index: int, which: int, size: int) -> NDArray[np.uint8]:
    """A smooth image that only this pair has; its positives (``which`` ≥ 1) are brighter copies."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    stream = np.random.RandomState(index)
    fx, fy, phase = stream.uniform(0.1, 0.7), stream.uniform(0.1, 0.7), stream.uniform(0, 6.28, size=3)
    channels = np.stack([np.sin(fx * x + fy * y + p) for p in phase], axis=2)
    return np.clip(128 + 90 * channels + 8 * which, 0, 255).astype(np.uint8)


def latent_of(index: int, which: int) -> NDArray[np.float32]:
    return (np.arange(LATENT) + 10 * index + which).astype(np.float32)


def label_of(index: int) -> int:
    return index % 3


class Pairs:
    """What FFCV's writer indexes."""

    def __init__(self, first: int, count: int, positives: int, size: int, latents: bool) -> None:
        self.first, self.count, self.positives, self.size, self.latents = first, count, positives, size, latents

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        index = self.first + i
        views = range(self.positives + 1)
        images = [image_of(index, which, self.size) for which in views]
        latents = [latent_of(index, which) for which in views] if self.latents else []
        return (*images, *latents, label_of(index), index)


def write_dataset(
    write: Callable[..., None],
    folder: Path,
    *,
    count: int = 40,
    per_shard: int = 16,
    positives: int = 1,
    size: int = 16,
    encoding: str = "raw",
    latents: bool = True,
) -> Path:
    folder.mkdir(parents=True)
    table = field_table((size, size), encoding, num_positives=positives, z_anchor=[LATENT] if latents else None)
    shards = []
    for k, first in enumerate(range(0, count, per_shard)):
        path = folder / shard_name(k)
        pairs = Pairs(first, min(per_shard, count - first), positives, size, latents)
        write(path, table, pairs, 1 << 21)
        digest = hashlib.sha256()
        for index in range(first, first + len(pairs)) if latents else ():
            for which in range(positives + 1):
                digest.update(latent_of(index, which).tobytes())
        shard = Shard(
            name=path.name,
            first_index=first,
            count=len(pairs),
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
            latents_sha256=digest.hexdigest(),
        )
        write_shard_record(folder, shard)
        shards.append(shard)
    recipe = {"num_pairs": count, "pairs_per_shard": per_shard, "seed": 0, "fields": table}
    write_manifest(folder, build_manifest(recipe, table, ["a", "b", "c"], shards, {}))
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, write_beton: Callable[..., None]) -> Callable[..., Path]:
    """``dataset(count=…, …)``: a folder with that dataset, written once a session."""
    root = tmp_path_factory.mktemp("datasets")
    known: dict[str, Path] = {}

    def make(**options: Any) -> Path:
        key = "-".join(f"{name}={value}" for name, value in sorted(options.items())) or "default"
        if key not in known:
            known[key] = write_dataset(write_beton, root / key.replace(":", "_"), **options)
        return known[key]

    return make


@pytest.fixture
def dataset_by_ffcv(tmp_path: Path, write_ffcv: Callable[..., None]) -> Callable[..., Path]:
    """As ``dataset``, by FFCV's own writer."""
    return partial(write_dataset, write_ffcv, tmp_path / "by-ffcv")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, the more so beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
