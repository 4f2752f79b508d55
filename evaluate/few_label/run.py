"""Logistic regression on few labels, from a config to entries of ``few-label.json``: one for each number of labels a class."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from genrep.devices import pick_precision

from ..frozen import COMPUTED, frozen_features
from ..images import stored_shape
from ..protocol import ImagesProtocol, Results
from ..results import Entry
from ..transforms import Transform
from .config import FewLabelConfig
from .fit import draw_labelled, few_label_accuracies

NORMAL = statistics.NormalDist().inv_cdf(0.975)


def evaluate_few_label(config: FewLabelConfig) -> tuple[Results, ...]:
    """The accuracy with few labels, for each number of labels in turn; the images' features are computed once.

    Raises:
        GenRepError: the encoder or the images cannot be read, a class has too few images, or ``out`` holds this result for
            another encoder.
    """
    held: dict[str, tuple[Tensor, Tensor]] = {}
    return tuple(FewLabel(config, number, held).measure_all() for number in config.labels)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean over draws: 1.96 standard errors to both sides."""
    half = NORMAL * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


class FewLabel(ImagesProtocol[FewLabelConfig]):
    """The mean over draws of ``number`` labelled training images of each class."""

    name = "few-label"

    def __init__(self, config: FewLabelConfig, number: int, held: dict[str, tuple[Tensor, Tensor]]) -> None:
        """``held``: the features of both splits by the encoder's digest, kept from one number to the next."""
        super().__init__(config)
        self.number, self.held = number, held

    def prepare(self) -> None:
        """See ``Protocol``."""
        draw_labelled(self.train.labels, classes=self.train.classes, per_class=self.number, draws=1, seed=self.seed)
        self.precision = pick_precision(self.config.precision, self.device)
        size = self.config.size
        if size is None and self.train.pixels is None and self.encoder.trained:
            size = self.encoder.facts.size
        self.transform = Transform(resize=size, crop=size, bicubic=True)
        self.check_sides(self.transform.shape(stored_shape(self.train)))

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        config = self.config
        return {
            "name": "few-label",
            "labels_per_class": self.number,
            "draws": config.draws,
            "head": "multinomial logistic regression, fitted to convergence",
            "inverse_l2": config.inverse_l2,
            "features": f"pooled, evaluation mode, {COMPUTED[self.precision]}, standardised by all training images",
            "images": self.transform.describe(),
            **self.images_said(),
        }

    def figures(self) -> Entry:
        """See ``Protocol``."""
        config, digest = self.config, self.encoder.sha256
        if digest not in self.held:
            self.held[digest] = (self._features(self.train), self._features(self.test))
        train, test = self.held[digest]
        found = few_label_accuracies(
            train,
            self.train.labels,
            test,
            self.test.labels,
            classes=self.train.classes,
            per_class=self.number,
            draws=config.draws,
            seed=self.seed,
            inverse_l2=config.inverse_l2,
            device=self.device,
        )
        return {
            "metric": "top-1",
            "unit": "percent",
            "value": statistics.fmean(found),
            "interval": list(interval(found)),
            "std": statistics.stdev(found),
            "accuracies": found,
            "n": len(self.test),
        }

    def _features(self, data: Any) -> Tensor:
        config = self.config
        return frozen_features(
            self.encoder,
            data,
            self.transform,
            self.device,
            precision=self.precision,
            batch_size=config.feature_batch,
            workers=config.workers,
            out=config.out if config.cache else None,
        )
