"""Weighted k-nearest neighbours on a frozen encoder's features, from a config to an entry of ``knn.json``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrep.encoders import DEVICES, PRECISIONS, LoadedEncoder
from genrep.encoders.devices import pick_device, pick_precision
from genrep.errors import DataError, one_of
from genrep.files import locked_folder, require_writable
from genrep.knn import NEIGHBOURS, TEMPERATURE, knn_score

from .encoders import check_encoder_choice, open_encoder
from .frozen import COMPUTED, frozen_features
from .images import LabelledImages, load_pair
from .results import Entry, add, data_digests, encoder_facts, find_or_tell, same_encoder, tell_changes
from .transforms import Transform

RESULT_FILE = "knn.json"


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Settings of a k-nearest-neighbour classifier (Wu et al. 2018)."""

    dataset: str  # one of evaluate.images.DATASETS, or an image folder
    out: Path
    encoder: str | Path | None = None  # see evaluate.encoders.open_encoder; this or random_init
    random_init: bool = False
    arch: str | None = None  # of a random-initialised encoder
    stem: str = "imagenet"
    mean: tuple[float, ...] | None = None  # None: the file's
    std: tuple[float, ...] | None = None
    root: Path | None = None  # where named datasets lie
    download: bool = False
    size: int | None = None  # side of the images' central square; None: what the encoder was trained at, or as stored
    k: int = NEIGHBOURS
    temperature: float = TEMPERATURE
    feature_batch: int = 256  # images per forward pass
    precision: str = "fp32"  # of the encoder's forward passes
    workers: int | None = None  # threads that decode; None: one per core
    cache: bool = True  # keep features in out/features/
    seed: int = 0  # of a random-initialised encoder
    device: str = "auto"
    force: bool = False  # replace an earlier result of the same dataset, protocol and seed

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_encoder_choice(encoder=self.encoder, random_init=self.random_init, arch=self.arch, stem=self.stem)
        for name, value, known in (("device", self.device, DEVICES), ("precision", self.precision, PRECISIONS)):
            if value not in known:
                raise ValueError(f"--{name} {value!r}: wanted one of {one_of(value, known)}")
        for name in ("k", "size", "feature_batch", "workers"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"--{name.replace('_', '-')} {count}: wanted at least 1")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--temperature {self.temperature}: wanted a positive number")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^63 - 1")


@dataclass(frozen=True, kw_only=True)
class KnnResult:
    """An entry of the result file."""

    path: Path
    entry: Entry
    already_done: bool = False


def evaluate_knn(config: KnnConfig) -> KnnResult:
    """Classify the test images by the vote of their nearest training images.

    Raises:
        GenRepError: the encoder or the images cannot be read, or ``out`` holds this result for another encoder.
    """
    started = time.monotonic()
    device = pick_device(config.device)
    path = config.out / RESULT_FILE
    require_writable(config.out, "--out")
    encoder = open_encoder(
        encoder=config.encoder,
        random_init=config.random_init,
        arch=config.arch,
        stem=config.stem,
        seed=config.seed,
        mean=config.mean,
        std=config.std,
    )
    train, test = load_pair(config.dataset, config.root, download=config.download)
    if config.k > len(train):
        raise DataError(f"--k {config.k}: wanted at most {len(train)}, the number of training images")
    transform = _transform(config, train, encoder)
    precision = pick_precision(config.precision, device)
    entry: Entry = {
        "dataset": train.name,
        "protocol": protocol(config, train, test, transform, precision),
        "seed": config.seed,
    }
    with locked_folder(config.out):
        tell_changes(config.out, train.name, [(data.split, data.inventory) for data in (train, test)])
        old = find_or_tell(path, entry)
        if old is not None and not config.force:
            return KnnResult(path=path, entry=same_encoder(old, encoder, path), already_done=True)
        entry |= _measure(config, encoder, train, test, transform, device, precision)
        entry |= {
            **encoder_facts(encoder, trained=encoder.trained),
            "device": device.type,
            "seconds": round(time.monotonic() - started, 1),
            "versions": {"torch": torch.__version__},
        }
        add(path, entry)
    return KnnResult(path=path, entry=entry)


def protocol(
    config: KnnConfig, train: LabelledImages, test: LabelledImages, transform: Transform, precision: str
) -> dict[str, Any]:
    """Everything that must agree for two results to stand in one column."""
    told = {name: list(value) for name, value in (("mean", config.mean), ("std", config.std)) if value is not None}
    return {
        "name": "knn",
        "source": "Wu et al. 2018",
        "features": f"pooled, evaluation mode, {COMPUTED[precision]}, of unit length",
        "images": transform.describe(),
        "train": train.split,
        "test": test.split,
        "train_images": len(train),
        "test_images": len(test),
        **data_digests(train.inventory, test.inventory),
        "classes": len(train.classes),
        "k": config.k,
        "temperature": config.temperature,
        "vote": "exp(cosine similarity / temperature)",
        **({"normalise": told} if told else {}),
    }


def _measure(
    config: KnnConfig,
    encoder: LoadedEncoder,
    train: LabelledImages,
    test: LabelledImages,
    transform: Transform,
    device: torch.device,
    precision: str,
) -> Entry:
    train_features, test_features = (
        frozen_features(
            encoder,
            data,
            transform,
            device,
            precision=precision,
            batch_size=config.feature_batch,
            workers=config.workers,
            out=config.out if config.cache else None,
        )
        for data in (train, test)
    )
    score = knn_score(
        train_features.to(device),
        torch.from_numpy(train.labels),
        test_features,
        torch.from_numpy(test.labels),
        num_classes=len(train.classes),
        k=config.k,
        temperature=config.temperature,
    )
    return {"metric": "knn_top1", "unit": "percent", "value": score.top1, "top5": score.top5, "n": len(test)}


def _transform(config: KnnConfig, data: LabelledImages, encoder: LoadedEncoder) -> Transform:
    """Sets in memory as they are stored, files at the size that the encoder was trained at, unless ``--size`` is given."""
    size = config.size
    if size is None and data.pixels is None and encoder.trained:
        size = encoder.facts.size
    return Transform(resize=size, crop=size, bicubic=True)
