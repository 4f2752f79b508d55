"""Weighted k-nearest neighbours on a frozen encoder's features, from a config to an entry of ``knn.json``."""

from __future__ import annotations

from typing import Any

import torch

from genrep.devices import pick_precision
from genrep.errors import DataError
from genrep.knn import knn_score

from .frozen import COMPUTED, frozen_features
from .images import stored_shape
from .protocol import ImagesProtocol, Results
from .results import Entry
from .settings import KnnConfig
from .transforms import Transform


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
            raise DataError.naming(
                "{k} {}: wanted at most {}, the number of training images", self.config.k, len(self.train)
            )
        self.precision = pick_precision(self.config.precision, self.device)
        self.transform = self._transform()
        self.check_sides(self.transform.shape(stored_shape(self.train)))

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
