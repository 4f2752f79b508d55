"""Weighted k-nearest neighbours on a frozen encoder's features, from a config to an entry of ``knn.json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from genrep.devices import pick_precision
from genrep.encoders.networks import Encoder
from genrep.errors import DataError
from genrep.images.labelled import LabelledImages
from genrep.knn import knn_score, knn_scores

from .frozen import COMPUTED, frozen_features
from .images import stored_shape
from .protocol import ImagesProtocol, Results
from .results import Entry
from .settings import KNN_PRESETS, KnnConfig
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
        config, there = self.config, len(self.train)
        self.preset = None if config.preset is None else KNN_PRESETS[config.preset]
        if self.preset is not None and max(self.preset.ks) > there:
            raise DataError.naming(
                "{preset} {}: {} training images; wanted at least {}", config.preset, there, max(self.preset.ks)
            )
        if config.k > there:
            raise DataError.naming("{k} {}: wanted at most {}, the number of training images", config.k, there)
        module = self.encoder.module
        self.reads_token = self.preset is not None and isinstance(module, Encoder) and module.has_class_token
        self.precision = pick_precision(self.config.precision, self.device)
        self.transform = self._transform()
        self.check_sides(self.transform.shape(stored_shape(self.train)))

    def _transform(self) -> Transform:
        """Sets in memory as they are stored, files at the size that the encoder was trained at, unless ``--size`` is given.

        A preset's: in proportion to the size that the encoder was trained at.
        """
        size = self.config.size
        if self.preset is not None:
            standard = self.preset.transform
            assert standard.resize is not None and standard.crop is not None
            crop = self.encoder.facts.size
            return standard.sized(size or round(crop * standard.resize / standard.crop), None if size else crop)
        if size is None and self.train.pixels is None and self.encoder.trained:
            size = self.encoder.facts.size
        return Transform(resize=size, crop=size, bicubic=True)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        config = self.config
        told = {name: list(value) for name, value in (("mean", config.mean), ("std", config.std)) if value is not None}
        preset = self.preset
        features, vote = "pooled", "exp(cosine similarity / temperature)"
        if preset is not None:
            features = "class token" if self.reads_token else "pooled (the encoder has no class token)"
            vote = f"softmax of cosine similarity / temperature over the {max(preset.ks)} nearest"
        return {
            "name": "knn",
            **({} if preset is None else {"preset": config.preset}),
            "source": "Wu et al. 2018" if preset is None else preset.source,
            "features": f"{features}, evaluation mode, {COMPUTED[self.precision]}, of unit length",
            "images": self.transform.describe(),
            **self.images_said(),
            "k": config.k,
            "temperature": config.temperature,
            "vote": vote,
            **({"normalise": told} if told else {}),
        }

    def figures(self) -> Entry:
        """See ``Protocol``."""
        config = self.config
        sides = (
            self._features(self.train).to(self.device),
            torch.from_numpy(self.train.labels),
            self._features(self.test),
            torch.from_numpy(self.test.labels),
        )
        classes, temperature = len(self.train.classes), config.temperature
        entry: Entry = {"metric": "knn_top1", "unit": "percent", "n": len(self.test)}
        if self.preset is None:
            score = knn_score(*sides, num_classes=classes, k=config.k, temperature=temperature)
        else:
            scores = knn_scores(*sides, num_classes=classes, ks=self.preset.ks, temperature=temperature)
            entry["values"] = {str(k): asdict(found) for k, found in scores.items()}
            score = scores[config.k]
        return {**entry, "value": score.top1, "top5": score.top5}

    def _features(self, data: LabelledImages) -> Tensor:
        config, module = self.config, self.encoder.module
        found = frozen_features(
            self.encoder,
            data,
            self.transform,
            self.device,
            precision=self.precision,
            batch_size=config.feature_batch,
            workers=config.workers,
            out=config.out if config.cache else None,
            blocks=1 if self.reads_token else None,
        )
        return found[:, : int(module.channels)] if self.reads_token else found  # type: ignore[arg-type]
