"""A linear probe from a config to entries of ``linear.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genrep.devices import pick_precision
from genrep.features import FrozenEncoder
from genrep.images.labelled import LabelledImages
from genrep.images.sets import is_small
from genrep.runs.engine import Run

from ..frozen import COMPUTED, frozen_features
from ..images import AugmentedBatches, Feed, stored_shape
from ..protocol import ImagesProtocol, Results
from ..results import Entry
from ..transforms import Augmentation, Transform
from .config import HELD_OUT, L2_GRID, LR_RULE, PRESETS, LinearConfig
from .heads import MOMENTUM, Heads, default_lr
from .logistic import probe_logistic
from .scores import Features, Score
from .training import HeadCurve, HeadsTrainer, course_of, fixed_feed


def evaluate_linear(config: LinearConfig) -> Results:
    """Train a linear classifier on a frozen encoder, by the preset, and test it on the test images; once for each seed.

    Raises:
        GenRepError: the encoder or the images cannot be read, or ``out`` holds this result for another encoder.
    """
    return LinearProbe(config).measure_all()


class LinearProbe(ImagesProtocol[LinearConfig]):
    """A linear classifier on a frozen encoder, by a paper's preset."""

    name = "linear"

    def prepare(self) -> None:
        """See ``Protocol``."""
        config = self.config
        self.preset = PRESETS[config.preset]
        self.precision = pick_precision(config.precision, self.device)
        self.metric = self.preset.metric or self.train.metric
        self.transform = self._transform()
        shape = self.transform.shape(stored_shape(self.train))
        self.check_sides(shape, "size" if config.crop is None else "crop")
        self.augmentation = self.preset.augmentation(self.train.name, self.transform)
        self.epochs = config.epochs or self.preset.long.get(self.train.name, self.preset.epochs)
        self.batch_size = config.batch_size or self.preset.batch_size
        self._training: Run | None = None

    def _transform(self) -> Transform:
        config = self.config
        if config.preset != "frozen":
            return self.preset.transform_of(self.train.name).sized(config.size, config.crop)
        side = config.size
        if side is None and not is_small(config.dataset) and not config.random_init:
            side = self.encoder.facts.size
        crop = config.crop or side
        return self.preset.transform.sized(side, crop)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        augmentation = self.augmentation
        said: dict[str, Any] = {
            "name": "linear",
            "preset": self.config.preset,
            "source": self.preset.source,
            "features": f"pooled, evaluation mode, {COMPUTED[self.precision]}, "
            + ("batch norm" if self.preset.batch_norm else "not standardised"),
            "augmentation": "none" if augmentation is None else augmentation.describe(),
            "test_transform": self.transform.describe(),
            **self.images_said(),
            "metric": self.metric,
        }
        if self.preset.head == "lbfgs":
            said["optimiser"] = "L-BFGS, mean cross-entropy + l2 / 2 squared weights"
            said["l2"] = (
                f"best of {len(L2_GRID)} values {L2_GRID[0]:g} to {L2_GRID[-1]:g} on 1 in {HELD_OUT} training images"
            )
            return said
        decay = self.preset.weight_decay
        kind = f"SGD, momentum {MOMENTUM}{', Nesterov' if self.preset.nesterov else ''}"
        lr = self._lr()
        said |= {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimiser": f"{kind}, {f'weight decay {decay:g}' if decay else 'no weight decay'}",
            "initialisation": "weights N(0, 0.01), bias 0" if self.preset.normal_init else "nn.Linear's",
            "schedule": self.preset.describe_schedule(),
            "lr": lr if lr is not None else f"{LR_RULE:g} / mean squared length of the training features",
            "reported": "last epoch",
        }
        return said

    def _lr(self) -> float | None:
        if self.config.lr is not None or self.preset.lr is None:
            return self.config.lr
        return self.preset.lr * self.batch_size / self.preset.batch_size

    def figures(self) -> Entry:
        """See ``Protocol``."""
        found = self._logistic() if self.preset.head == "lbfgs" else self._sgd()
        return {**found, "n": len(self.test)}

    def written(self) -> None:
        """Remove the checkpoint: the result is there."""
        if self._training is not None:
            self._training.forget()

    def _logistic(self) -> Entry:
        train, test = self._features(self.train), self._features(self.test)
        score, l2 = probe_logistic(
            train, test, num_classes=self._classes, seed=self.seed, metric=self.metric, device=self.device
        )
        return {**self._said(score, "lbfgs"), "l2": l2}

    @property
    def _classes(self) -> int:
        return len(self.train.classes)

    def _sgd(self) -> Entry:
        test = self._features(self.test)
        lr, identity = self._lr(), None
        if self.augmentation is None:
            train = self._features(self.train)
            lr = default_lr(train.features) if lr is None else lr
            feed = fixed_feed(train.to(self.device), self.batch_size, self.seed, self.device)
        else:
            feed = self._augmented_feed(self.augmentation)
            assert lr is not None
            identity = {**self.key, "encoder_sha256": self.encoder.sha256, "lrs": [lr, *self._grid()]}
        lrs = (lr, *self._grid())
        heads = Heads(test.features.shape[1], self._classes, lrs, self.seed, self.device, self.preset)
        trainer = HeadsTrainer(heads, feed, test, lrs=lrs, epochs=self.epochs)
        self._training = Run(trainer, course_of(trainer, self.config.out, identity), self.processes)
        self._training.go_on()
        return self._of_curves(trainer.curves)

    def _grid(self) -> tuple[float, ...]:
        """The further rates; the preset's have no place beside a rate that was asked for."""
        if self.config.lr_grid is not None:
            return self.config.lr_grid
        if self.config.lr is not None:
            return ()
        return tuple(rate * self.batch_size / self.preset.batch_size for rate in self.preset.lr_grid)

    def _augmented_feed(self, augmentation: Augmentation) -> Feed:
        facts = self.encoder.facts
        views = AugmentedBatches(
            self.train,
            augmentation,
            self.transform,
            facts,
            seed=self.seed,
            device=self.device,
            workers=self.config.workers,
        )
        frozen = FrozenEncoder(self.encoder.module, facts, self.device, self.batch_size, self.precision)

        def features(epoch: int, rows: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
            for x, labels in views(epoch, rows):
                yield frozen.of_normalised(x), labels

        return Feed(load=features, images=len(self.train), batch_size=self.batch_size, seed=self.seed)

    def _features(self, data: LabelledImages) -> Features:
        config = self.config
        features = frozen_features(
            self.encoder,
            data,
            self.transform,
            self.device,
            precision=self.precision,
            batch_size=config.feature_batch,
            workers=config.workers,
            out=config.out if config.cache else None,
        )
        return Features(features=features, labels=torch.from_numpy(data.labels))

    def _of_curves(self, curves: list[HeadCurve]) -> Entry:
        """The first head's last epoch is the result, chosen without the test images."""
        first = curves[0]
        return {
            **self._said(first.last, f"{self.epochs}ep"),
            "best_value": first.best(self.metric),  # the best epoch on the test images: not a result
            "lr": first.lr,
            "lr_grid": [
                {"lr": curve.lr, "value": curve.last.value(self.metric), "best_value": curve.best(self.metric)}
                for curve in curves[1:]
            ],
        }

    def _said(self, score: Score, how: str) -> Entry:
        name = self.metric.replace("top-1", "top1").replace(" ", "_")
        said: Entry = {"metric": f"linear_{name}_{how}", "unit": "percent", "value": score.value(self.metric)}
        said |= {"top1": score.top1, "mean_per_class": score.mean_per_class}
        return said if score.top5 is None else {**said, "top5": score.top5}
