"""A linear probe from a config to entries of ``linear.json``."""

from __future__ import annotations

from typing import Any

import torch

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
from .choice import Grid, best_head, blocks_of, readings
from .config import CHOOSING, HELD_OUT, L2_GRID, LR_RULE, LinearConfig
from .heads import MOMENTUM, Heads, default_lr
from .logistic import held_out, probe_logistic
from .presets import PRESETS
from .scores import Features, Score, evaluate_heads
from .training import HeadCurve, HeadsTrainer, augmented_feed, course_of, fixed_feed


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
        self.augmentation = self.preset.augmentation(self.train.name, self.transform) if config.crops else None
        self.epochs = config.epochs or self.preset.long.get(self.train.name, self.preset.epochs)
        self.epoch_length = config.epoch_length or self.preset.epoch_length
        self.blocks = blocks_of(self.preset, self.encoder)
        self.inside, self.outside = held_out(self.train.labels, self.seed, CHOOSING)
        asked = config.batch_size or self.preset.batch_size
        there = len(self.inside) if self.chooses else len(self.train)
        self.batch_size: int = min(asked, there) if self.preset.full_batches else asked
        self._training: Run | None = None

    @property
    def chooses(self) -> bool:
        """Whether the result's head is one of a grid."""
        return bool(self.preset.rates)

    def _transform(self) -> Transform:
        config = self.config
        if self.preset.own_size and config.size is None:
            crop = config.crop or self.encoder.facts.size
            standard = self.preset.transform
            assert standard.resize is not None and standard.crop is not None
            return standard.sized(round(crop * standard.resize / standard.crop), crop)
        if config.preset != "frozen":
            return self.preset.transform_of(self.train.name).sized(config.size, config.crop)
        side = config.size
        if side is None and not is_small(config.dataset) and not config.random_init:
            side = self.encoder.facts.size
        return self.preset.transform.sized(side, config.crop or side)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        augmentation = self.augmentation
        said: dict[str, Any] = {
            "name": "linear",
            "preset": self.config.preset,
            "source": self.preset.source,
            "features": self._features_said(),
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
        return {**said, **self._training_said()}

    def _features_said(self) -> str:
        what = " or ".join(one.what for one in readings(self.preset, self.encoder))
        if self.preset.blocks and self.blocks is None:
            what += " (the encoder has no class token)"
        norm = "batch norm" if self.preset.affine else "batch norm without gain and shift"
        return f"{what}, evaluation mode, {COMPUTED[self.precision]}, " + (
            norm if self.preset.batch_norm else "not standardised"
        )

    def _training_said(self) -> dict[str, Any]:
        decay = self.preset.weight_decay
        kind = f"{'LARS' if self.preset.lars else 'SGD'}, momentum {MOMENTUM}{', Nesterov' if self.preset.nesterov else ''}"
        lr = self._lr()
        said: dict[str, Any] = {
            "epochs": self.epochs,
            **({} if self.epoch_length is None else {"epoch_length": self.epoch_length}),
            "batch_size": self.batch_size,
            "optimiser": f"{kind}, {f'weight decay {decay:g}' if decay else 'no weight decay'}",
            "initialisation": "weights N(0, 0.01), bias 0" if self.preset.normal_init else "nn.Linear's",
            "schedule": self.preset.describe_schedule(),
            "lr": lr if lr is not None else f"{LR_RULE:g} / mean squared length of the training features",
            "reported": "last epoch",
        }
        if self.chooses:
            said["lr"] = "chosen among " + ", ".join(f"{rate:g}" for rate in self._rates())
            said["chosen_on"] = (
                f"1 in {CHOOSING} training images of each class, drawn by the seed, which train no head; never on test images"
            )
        return said

    def _rates(self) -> tuple[float, ...]:
        """The rates to choose among: those that were asked for, else the preset's."""
        asked = tuple(rate for rate in (self.config.lr,) if rate is not None) + (self.config.lr_grid or ())
        return asked or tuple(rate * self.batch_size / 256 for rate in self.preset.rates)

    def _lr(self) -> float | None:
        if self.config.lr is not None or self.preset.lr is None:
            return self.config.lr
        return self.preset.lr * self.batch_size / self.preset.batch_size

    def figures(self) -> Entry:
        """See ``Protocol``."""
        if self.preset.head == "lbfgs":
            found = self._logistic()
        else:
            found = self._chosen() if self.chooses else self._sgd()
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
            feed = self._fixed_feed(train)
        else:
            feed = self._augmented_feed(self.train, self.augmentation)
            assert lr is not None
            identity = {**self.key, "encoder_sha256": self.encoder.sha256, "lrs": [lr, *self._grid()]}
        lrs = (lr, *self._grid())
        heads = Heads(test.features.shape[1], self._classes, lrs, self.seed, self.device, self.preset)
        trainer = HeadsTrainer(heads, feed, test, lrs=lrs, epochs=self.epochs, epoch_length=self.epoch_length)
        self._train(trainer, identity)
        return self._of_curves(trainer.curves)

    def _train(self, trainer: HeadsTrainer, identity: dict[str, Any] | None) -> None:
        self._training = Run(trainer, course_of(trainer, self.config.out, identity), self.processes)
        self._training.go_on()

    def _chosen(self) -> Entry:
        """Train a grid's heads on a part of the training images, choose one on the others, and test that one."""
        grid = Grid(preset=self.preset, readings=readings(self.preset, self.encoder), lrs=self._rates())
        feed, check = self._parts()
        heads = grid.build(check.features.shape[1], self._classes, self.seed, self.device)
        lrs = tuple(lr for _, lr in grid.heads)
        trainer = HeadsTrainer(
            heads, feed, check, lrs=lrs, epochs=self.epochs, epoch_length=self.epoch_length, choosing=True
        )
        self._train(trainer, {**self.key, "encoder_sha256": self.encoder.sha256, "lrs": list(lrs)})
        chosen = best_head(trainer.curves, self.metric)
        # Test images come in only now.
        score = evaluate_heads(heads.logits_of(chosen), self._features(self.test), 1, self._classes, self.device)[0]
        told = [grid.describe(g, curve.last.value(self.metric)) for g, curve in enumerate(trainer.curves)]
        return {
            **self._said(score, f"{self.epochs}ep"),
            "lr": lrs[chosen],
            "chosen": told[chosen],
            "grid": told,
        }

    def _parts(self) -> tuple[Feed, Features]:
        """Batches to train on, and the held-out features."""
        if self.augmentation is None:
            whole = self._features(self.train)
            inside, check = (
                Features(features=whole.features[rows], labels=whole.labels[rows])
                for rows in (self.inside, self.outside)
            )
            return self._fixed_feed(inside), check
        inside_images, outside_images = (
            self.train.take(rows.numpy(), f"{name} of {self.train.split}")
            for rows, name in ((self.inside, "fitted part"), (self.outside, "held-out part"))
        )
        return self._augmented_feed(inside_images, self.augmentation), self._features(outside_images)

    def _fixed_feed(self, train: Features) -> Feed:
        whole = self.preset.full_batches
        return fixed_feed(train.to(self.device), self.batch_size, self.seed, self.device, whole=whole)

    def _grid(self) -> tuple[float, ...]:
        """The further rates; the preset's have no place beside a rate that was asked for."""
        if self.config.lr_grid is not None:
            return self.config.lr_grid
        if self.config.lr is not None:
            return ()
        return tuple(rate * self.batch_size / self.preset.batch_size for rate in self.preset.lr_grid)

    def _augmented_feed(self, data: LabelledImages, augmentation: Augmentation) -> Feed:
        facts, config = self.encoder.facts, self.config
        views = AugmentedBatches(
            data, augmentation, self.transform, facts, seed=self.seed, device=self.device, workers=config.workers
        )
        # Batches of thousands do not pass through an encoder in one piece.
        most = min(self.batch_size, config.feature_batch) if self.preset.full_batches else self.batch_size
        frozen = FrozenEncoder(self.encoder.module, facts, self.device, most, self.precision, self.blocks)
        return augmented_feed(views, frozen, self.batch_size, seed=self.seed, whole=self.preset.full_batches)

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
            blocks=self.blocks,
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
