"""Weighted k-nearest neighbours on a frozen encoder's features, from a config to an entry of ``knn.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrep.devices import pick_precision
from genrep.encoders import DEVICES, PRECISIONS
from genrep.errors import DataError, one_of
from genrep.knn import NEIGHBOURS, TEMPERATURE, knn_score

from .encoders import check_encoder_choice
from .frozen import COMPUTED, frozen_features
from .protocol import ImagesProtocol, Results
from .results import Entry
from .transforms import Transform


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Settings of a k-nearest-neighbour classifier (Wu et al. 2018)."""

    dataset: str  # a name of images.sets.SETS, or an image folder
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


def evaluate_knn(config: KnnConfig) -> Results:
    """Classify the test images by the vote of their nearest training images.

    Raises:
        GenRepError: the encoder or the images cannot be read, or ``out`` holds this result for another encoder.
    """
    return NearestNeighbours(config).measure_all()


class NearestNeighbours(ImagesProtocol[KnnConfig]):
    """The vote of each test image's nearest training images, by the features' cosine similarity."""

    name = "knn"

    def encoder_options(self) -> dict[str, Any]:
        """See ``Protocol``."""
        return {"mean": self.config.mean, "std": self.config.std}

    def prepare(self) -> None:
        """See ``Protocol``."""
        if self.config.k > len(self.train):
            raise DataError(f"--k {self.config.k}: wanted at most {len(self.train)}, the number of training images")
        self.precision = pick_precision(self.config.precision, self.device)
        self.transform = self._transform()

    def _transform(self) -> Transform:
        """Sets in memory as they are stored, files at the size that the encoder was trained at, unless ``--size`` is given."""
        size = self.config.size
        if size is None and self.train.pixels is None and self.encoder.trained:
            size = self.encoder.facts.size
        return Transform(resize=size, crop=size, bicubic=True)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        config = self.config
        told = {name: list(value) for name, value in (("mean", config.mean), ("std", config.std)) if value is not None}
        return {
            "name": "knn",
            "source": "Wu et al. 2018",
            "features": f"pooled, evaluation mode, {COMPUTED[self.precision]}, of unit length",
            "images": self.transform.describe(),
            **self.images_said(),
            "k": config.k,
            "temperature": config.temperature,
            "vote": "exp(cosine similarity / temperature)",
            **({"normalise": told} if told else {}),
        }

    def figures(self) -> Entry:
        """See ``Protocol``."""
        config = self.config
        train_features, test_features = (
            frozen_features(
                self.encoder,
                data,
                self.transform,
                self.device,
                precision=self.precision,
                batch_size=config.feature_batch,
                workers=config.workers,
                out=config.out if config.cache else None,
            )
            for data in (self.train, self.test)
        )
        score = knn_score(
            train_features.to(self.device),
            torch.from_numpy(self.train.labels),
            test_features,
            torch.from_numpy(self.test.labels),
            num_classes=len(self.train.classes),
            k=config.k,
            temperature=config.temperature,
        )
        return {"metric": "knn_top1", "unit": "percent", "value": score.top1, "top5": score.top5, "n": len(self.test)}
