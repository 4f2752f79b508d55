"""Fine-tuning: the whole encoder with a classifier, on few labels or all, end to end."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrep.errors import DataError, phrase
from genrep.features import FrozenEncoder
from genrep.files import sha256_file
from genrep.images.labelled import LabelledImages
from genrep.progress import Progress
from genrep.runs.engine import Course, Run
from genrep.seeding import derive
from genrep.untrusted import MAX_TEXT, read_bounded

from ..images import AugmentedBatches, Feed, Ints, whole_batches
from ..linear.scores import Score, Tally
from ..protocol import ImagesProtocol, Results
from ..results import Entry
from ..transforms import Augmentation, Transform
from .config import PRESETS, VISSL, FinetuneConfig, FinetuneSettings, parse_labels
from .strong import BETAS, StrongTrainer, pooled_by, repool
from .training import FinetuneTrainer, Network, build_network

TEST_BATCH = 256


def evaluate_finetune(config: FinetuneConfig) -> Results:
    """Fine-tune an encoder on a part of the labels and test it on all test images; once for each seed.

    An interrupted call goes on from its last epoch.

    Raises:
        GenRepError: the encoder, the images or the list cannot be read, or ``out`` holds this result for another encoder.
    """
    return Finetuning(config).measure_all()


class Finetuning(ImagesProtocol[FinetuneConfig]):
    """The whole encoder with a classifier, on few labels."""

    name = "finetune"

    def prepare(self) -> None:
        """See ``Protocol``."""
        config, whole = self.config, self.train
        self.law = law = law_of(config)
        rows, split = self._choose(whole)
        self.train = whole.take(rows, split)
        # The set that the seed chooses from, so that results of several seeds are one row. A list leaves no choice.
        self.source = whole if config.subset is None else self.train
        self.transform = self._transform()
        self.check_sides(self.transform.shape(None), "size" if config.crop is None else "crop")
        fill = None  # of what rotations leave empty
        if law.rand_augment:
            fill = tuple(min(255, round(255 * channel)) for channel in self.encoder.facts.mean)
        self.augmentation = Augmentation(
            scale=law.crop_scale,
            size=self.transform.crop,
            bicubic=law.bicubic,
            rand_fill=fill,
            erasing=law.erasing,
        )
        self.epochs = config.epochs or law.epochs
        self.batch_size = min(config.batch_size or law.batch_size, len(rows))
        if law.mixup:
            self.batch_size -= self.batch_size % 2
        if self.batch_size < 2:
            raise DataError(f"dataset {whole.name}, {split}: one image; wanted two or more for batch norm")
        self.lr = law.lr * self.batch_size / law.batch_size if config.lr is None else config.lr

    def identified(self) -> tuple[LabelledImages, LabelledImages]:
        """See ``Protocol``."""
        return self.source, self.test

    def _choose(self, train: LabelledImages) -> tuple[Any, str]:
        if self.config.subset is not None:
            rows = read_subset(train, self.config.subset)
            return rows, f"list {self.config.subset.name}, sha256 {sha256_file(self.config.subset)[:12]}"
        if self.config.labels is None:
            return np.arange(len(train)), train.split
        rows = choose_labelled(train, self.config.labels, self.seed)
        return rows, f"{self.config.labels} of {train.split}, class-balanced, chosen by the seed"

    def _transform(self) -> Transform:
        """The law's, in proportion to the pixels that the encoder was trained at."""
        (size, crop), law = (self.config.size, self.config.crop), self.law
        if crop is None:
            crop = self.encoder.facts.size if size is None else max(1, round(size * law.crop / law.resize))
        resize = round(crop * law.resize / law.crop) if size is None else size
        return Transform(resize=resize, crop=crop, bicubic=law.bicubic)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        law = self.law
        said = {
            "name": "finetune",
            **({} if law is VISSL else {"preset": self.config.preset}),
            "source": law.source,
            **self.images_said(),
            "augmentation": self.augmentation.describe(),
            "test_transform": self.transform.describe(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimiser": f"SGD, momentum {VISSL.momentum}, Nesterov, no weight decay; all layers",
            "lr": self.lr,
            "schedule": f"a tenth after {law.milestone:.3g} of the epochs",
            "metric": "top-1",
            "reported": "last epoch",
        }
        return {**said, **self._strong_said()} if law.adamw else said

    def _strong_said(self) -> dict[str, Any]:
        law, module = self.law, self.encoder.module
        way = pooled_by(module, law, self.config.global_pool)
        pooled = {None: "pooled as the encoder does", "avg": "the mean of the patches", "cls": "the class token"}[way]
        drop = f"{law.drop_path:g}" if hasattr(module, "blocks") else "none: it has no blocks of a transformer"
        return {
            "features": pooled + (", a new norm behind it" if law.new_norm and way is not None else ""),
            "optimiser": f"AdamW {BETAS}, weight decay {law.weight_decay:g} of matrices; all layers",
            "layer_decay": law.layer_decay,
            "drop_path": drop,
            "mixing": f"mixup {law.mixup:g} or CutMix {law.cutmix:g}, half of the batches each",
            "label_smoothing": law.smoothing,
            "schedule": f"linear over {law.warmup / law.epochs:.3g} of the epochs, then cosine per update to {law.floor:g}",
            "reported": f"last epoch, moving average of weights {law.average:g}" if law.average else "last epoch",
        }

    def figures(self) -> Entry:
        """See ``Protocol``."""
        network = self._network()
        self._training = self._run(network)
        self._training.go_on()
        self._trainer.finish()
        score = self._score(network)
        return {
            "metric": f"finetune_top1_{self.epochs}ep",
            "unit": "percent",
            "value": score.top1,
            **{name: value for name, value in asdict(score).items() if value is not None},
            "lr": self.lr,
            "n": len(self.test),
        }

    def written(self) -> None:
        """Remove the checkpoint: the result is there."""
        self._training.forget()

    def _network(self) -> Network:
        side = self.augmentation.size or self.encoder.facts.size
        encoder = copy.deepcopy(self.encoder.module)
        repool(encoder, self.law, self.config.global_pool)
        return build_network(encoder, side, len(self.test.classes), self.seed, self.device, self.law)

    def _run(self, network: Network) -> Run:
        """The training, from its checkpoint if there is one."""
        views = AugmentedBatches(
            self.train,
            self.augmentation,
            self.transform,
            self.encoder.facts,
            seed=self.seed,
            device=self.device,
            workers=self.config.workers,
        )
        feed = Feed(load=views, images=len(self.train), batch_size=self.batch_size, seed=self.seed, whole=True)
        told: dict[str, Any] = {"epochs": self.epochs, "lr": self.lr, "out": self.config.out}
        if self.law.adamw:
            trainer: FinetuneTrainer = StrongTrainer(network, feed, law=self.law, seed=self.seed, **told)
        else:
            trainer = FinetuneTrainer(network, feed, **told)
        self._trainer = trainer
        course = Course(
            out=self.config.out,
            passing=True,
            label="fine-tuning",
            unit="epoch",
            total=self.epochs * feed.per_epoch,
            shown_every=feed.per_epoch,
            batch_size=self.batch_size,
            smaller=phrase("try a smaller one"),
            way=trainer.way,
            identity={**self.key, "encoder_sha256": self.encoder.sha256},
            checkpoint_every=feed.per_epoch,
            losses=(),  # the trainer's alarm says it in epochs
            shown={"loss": ".3f"},
        )
        return Run(trainer, course, self.processes)

    def _score(self, network: Network) -> Score:
        frozen = FrozenEncoder(network.encoder, self.encoder.facts, self.device, TEST_BATCH)
        tally = Tally(len(self.test.classes), 1)
        labels = torch.from_numpy(self.test.labels).split(TEST_BATCH)
        images = whole_batches(self.test, self.transform, TEST_BATCH, self.config.workers)
        with Progress(len(self.test), "image", "testing") as progress, torch.no_grad():
            for pixels, wanted in zip(images, labels):
                tally.add(network.head(frozen(pixels))[:, None], wanted.to(self.device))
                progress.update(len(pixels))
        return tally.scores([phrase("give a smaller {lr} than {:g}", self.lr)])[0]


def law_of(config: FinetuneConfig) -> FinetuneSettings:
    """The preset, with what was asked for in place of its own."""
    law = PRESETS[config.preset]
    asked = {name: value for name in ("layer_decay", "drop_path") if (value := getattr(config, name)) is not None}
    return replace(law, **asked) if asked else law


def choose_labelled(data: LabelledImages, labels: str, seed: int) -> Ints:
    """Rows of a class-balanced part, in order: of each class the rounded part, at least one, or so many.

    Raises DataError if a class has fewer.
    """
    part, count = parse_labels(labels)
    key = derive("labelled", seed)
    stream = np.random.RandomState([key & 0xFFFFFFFF, key >> 32])
    chosen = []
    for label, name in enumerate(data.classes):
        rows = stream.permutation(np.flatnonzero(data.labels == label))
        wanted = count if count is not None else max(1, round(len(rows) * (part or 0)))
        if wanted > len(rows):
            raise DataError.naming(
                "{labels} {}: class {} of {} has {} training images", labels, name, data.name, len(rows)
            )
        chosen.append(rows[:wanted])
    return np.sort(np.concatenate(chosen))


def read_subset(data: LabelledImages, path: Path) -> Ints:
    """Rows of the file names in a list, one per line, with or without folders (SimCLR: ``n01440764_10074.JPEG``).

    Raises DataError: the list cannot be read, is empty, names a file twice or one that is not there, or leaves a class out.
    """
    if data.paths is None:
        raise DataError.naming("{subset} {}: {} has no file names; wanted {labels}", path, data.name)
    try:
        lines = read_bounded(path, MAX_TEXT, DataError, follow=True).decode().split()
    except (DataError, UnicodeDecodeError) as error:
        raise DataError.naming("{subset} {}: cannot be read ({})", path, error) from error
    numbers = {Path(name).name: i for i, name in enumerate(data.paths)}
    if len(numbers) < len(data):
        raise DataError.naming(
            "{subset} {}: file names of {} occur in several classes; wanted {labels}", path, data.name
        )
    names = [line.rpartition("/")[2] for line in lines]
    if unknown := [name for name in names if name not in numbers]:
        raise DataError.naming(
            "{subset} {}: {} of {} files are not in {}, e.g. {}", path, len(unknown), len(names), data.name, unknown[0]
        )
    if not names or len(set(names)) < len(names):
        raise DataError.naming("{subset} {}: wanted file names, each once", path)
    rows = np.sort(np.array([numbers[name] for name in names], dtype=np.int64))
    missing = np.setdiff1d(np.arange(len(data.classes)), data.labels[rows])
    if len(missing):
        raise DataError.naming(
            "{subset} {}: no image of {} classes, e.g. {}", path, len(missing), data.classes[missing[0]]
        )
    return rows
