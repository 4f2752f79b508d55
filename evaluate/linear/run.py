"""A linear probe from a config to entries of ``linear.json``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.encoders import LoadedEncoder
from genrep.encoders.devices import pick_device, pick_precision
from genrep.features import Frozen
from genrep.files import locked_folder
from genrep.images.labelled import NAMED

from ..augment import AugmentedBatches
from ..checkpoints import Checkpoint
from ..encoders import open_encoder
from ..frozen import COMPUTED, frozen_features
from ..images import LabelledImages, load_pair
from ..metrics import Score
from ..results import Entry, add, data_digests, encoder_facts, find_or_tell, same_encoder, tell_changes
from ..transforms import Augmentation, Transform
from .config import LinearConfig
from .fit import Curve, Feed, Split, batches, fit_heads, fixed_feed
from .heads import MOMENTUM, Heads, default_lr
from .logistic import probe_logistic
from .presets import HELD_OUT, L2_GRID, LR_RULE, PRESETS

RESULT_FILE = "linear.json"


@dataclass(frozen=True, kw_only=True)
class LinearResult:
    """Entries of the result file, one for each seed."""

    path: Path
    entries: tuple[Entry, ...]
    already_done: bool = False  # all of them

    @property
    def entry(self) -> Entry:
        """The first seed's."""
        return self.entries[0]

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return statistics.fmean(entry["value"] for entry in self.entries)

    @property
    def std(self) -> float | None:
        """Of the seeds (with N - 1); None for one."""
        values = [entry["value"] for entry in self.entries]
        return statistics.stdev(values) if len(values) > 1 else None


def evaluate_linear(config: LinearConfig) -> LinearResult:
    """Train a linear classifier on a frozen encoder, by the preset, and test it on the test images; once for each seed.

    Raises:
        GenRepError: the encoder or the images cannot be read, or ``out`` holds this result for another encoder.
    """
    with locked_folder(config.out):
        return measure_linear(config, config.out / RESULT_FILE)


def measure_linear(config: LinearConfig, path: Path) -> LinearResult:
    """``evaluate_linear`` in a folder that is held already, with the results in ``path``."""
    device = pick_device(config.device)
    encoder = _open(config, config.seeds[0])
    train, test = load_pair(config.dataset, config.root, download=config.download)
    tell_changes(config.out, train.name, [(data.split, data.inventory) for data in (train, test)])
    entries, done = [], []
    for seed in config.seeds:
        if config.random_init and seed != config.seeds[0]:
            encoder = _open(config, seed)
        probe = Probe(config, encoder, train, test, seed, device)
        old = find_or_tell(path, probe.key)
        if old is not None and not config.force:
            entries.append(same_encoder(old, encoder, path))
            done.append(True)
            continue
        entries.append(probe.run(path))
        done.append(False)
    return LinearResult(path=path, entries=tuple(entries), already_done=all(done))


def _open(config: LinearConfig, seed: int) -> LoadedEncoder:
    return open_encoder(
        encoder=config.encoder, random_init=config.random_init, arch=config.arch, stem=config.stem, seed=seed
    )


class Probe:
    """One seed's probe of an encoder on a dataset."""

    def __init__(
        self,
        config: LinearConfig,
        encoder: LoadedEncoder,
        train: LabelledImages,
        test: LabelledImages,
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.encoder, self.train, self.test = config, encoder, train, test
        self.seed, self.device, self.preset = seed, device, PRESETS[config.preset]
        self.precision = pick_precision(config.precision, device)
        self.metric = self.preset.metric or train.metric
        self.transform = self._transform()
        self.augmentation = self.preset.augmentation(train.name, self.transform)
        self.epochs = config.epochs or self.preset.long.get(train.name, self.preset.epochs)
        self.batch_size = config.batch_size or self.preset.batch_size
        self.key: Entry = {"dataset": train.name, "protocol": self.protocol(), "seed": seed}

    def _transform(self) -> Transform:
        config = self.config
        if config.preset != "frozen":
            return self.preset.transform_of(self.train.name).sized(config.size, config.crop)
        side = config.size
        if side is None and config.dataset not in NAMED and not config.random_init:
            side = self.encoder.facts.size
        crop = config.crop or side
        return self.preset.transform.sized(side, crop)

    def protocol(self) -> dict[str, Any]:
        """Everything that must agree for two results to stand in one column."""
        augmentation = self.augmentation
        said: dict[str, Any] = {
            "name": "linear",
            "preset": self.config.preset,
            "source": self.preset.source,
            "features": f"pooled, evaluation mode, {COMPUTED[self.precision]}, "
            + ("batch norm" if self.preset.batch_norm else "not standardised"),
            "augmentation": "none" if augmentation is None else augmentation.describe(),
            "test_transform": self.transform.describe(),
            "train": self.train.split,
            "test": self.test.split,
            "train_images": len(self.train),
            "test_images": len(self.test),
            **data_digests(self.train.inventory, self.test.inventory),
            "classes": len(self.train.classes),
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

    def run(self, path: Path) -> Entry:
        """Measure, and write the entry."""
        started = time.monotonic()
        if self.preset.head == "lbfgs":
            found, checkpoint = self._logistic(), None
        else:
            found, checkpoint = self._sgd()
        entry = self.key | found
        entry |= {
            "n": len(self.test),
            **encoder_facts(self.encoder, trained=not self.config.random_init),
            "device": self.device.type,
            "seconds": round(time.monotonic() - started, 1),
            "versions": {"torch": torch.__version__},
        }
        add(path, entry)
        if checkpoint is not None:
            checkpoint.remove()
        return entry

    def _logistic(self) -> Entry:
        train, test = self._features(self.train), self._features(self.test)
        score, l2 = probe_logistic(
            train, test, num_classes=self._classes, seed=self.seed, metric=self.metric, device=self.device
        )
        return {**self._said(score, "lbfgs"), "l2": l2}

    @property
    def _classes(self) -> int:
        return len(self.train.classes)

    def _sgd(self) -> tuple[Entry, Checkpoint | None]:
        test = self._features(self.test)
        lr = self._lr()
        grid = self.config.lr_grid
        checkpoint = None
        if self.augmentation is None:
            train = self._features(self.train)
            lr = default_lr(train.features) if lr is None else lr
            feed: Feed = fixed_feed(train.to(self.device), self.batch_size, self.seed, self.device)
        else:
            feed = self._augmented_feed(self.augmentation)
            assert lr is not None
            checkpoint = Checkpoint(self.config.out, self._settings(lr))
        lrs = (lr, *(self._default_grid() if grid is None else grid))
        heads = Heads(test.features.shape[1], self._classes, lrs, self.seed, self.device, self.preset)
        curves = fit_heads(heads, feed, test, lrs=lrs, epochs=self.epochs, checkpoint=checkpoint)
        return self._of_curves(curves), checkpoint

    def _default_grid(self) -> tuple[float, ...]:
        """The preset's further rates, unless a rate was asked for."""
        if self.config.lr is not None:
            return ()
        return tuple(rate * self.batch_size / self.preset.batch_size for rate in self.preset.lr_grid)

    def _settings(self, lr: float) -> dict[str, Any]:
        """What a checkpoint belongs to."""
        return {
            **self.key,
            "encoder_sha256": self.encoder.sha256,
            "lrs": [lr, *(self._default_grid() if self.config.lr_grid is None else self.config.lr_grid)],
        }

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
        frozen = Frozen(self.encoder.module, facts, self.device, self.batch_size, self.precision)

        def feed(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            for x, labels in views(epoch, batches(len(self.train), self.batch_size, self.seed, epoch)):
                yield frozen.of_normalised(x), labels

        return feed

    def _features(self, data: LabelledImages) -> Split:
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
        return Split(features=features, labels=torch.from_numpy(data.labels))

    def _of_curves(self, curves: list[Curve]) -> Entry:
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
