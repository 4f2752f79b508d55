"""Segmentation from a config to an entry of ``segmentation.json``.

The run of a linear head has a folder inside ``--out``, ``segmentation-XXXXXXXX/``: checkpoint.pt · config.json · metrics.jsonl.
The digits are those of what the run is, so that two runs never share one and the same command finds its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.devices import pick_precision
from genrep.errors import ConfigError, DataError, phrase
from genrep.features import FrozenEncoder, token_batches
from genrep.files import digest_json, faults_named
from genrep.progress import Progress, note
from genrep.runs.engine import Course, Run, memory_named
from genrep.seeding import derive

from ..frozen import COMPUTED, FOLDER, stored_features
from ..protocol import Protocol, Results
from ..results import Entry
from ..transforms import Pixels
from ..voc.layout import ahead
from .config import OF_KNN, OF_LINEAR, SegmentationConfig
from .confusion import Confusion
from .head import HeadTrainer
from .layout import Mask, SegmentationSplit, check_readable, read_splits
from .neighbours import VOTERS, Ints, Labels, Patches, nearest, patch_labels, statistics, usable, voted
from .views import square_mask, square_view, test_view, training_batches
from .windows import predictions

TEST_ONLY = ("test", "test_images", "test_sha256", "stride", "metric")
SMALLER = phrase("try a smaller one with a smaller {lr}")  # out of a batch that does not fit in memory


def evaluate_segmentation(config: SegmentationConfig) -> Results:
    """Segment the test images from a frozen encoder's patches, once for each seed; an interrupted training goes on.

    Raises:
        GenRepError: the encoder or the data cannot be read, the training cannot go on, or ``out`` holds this result for
            another encoder.
    """
    return Segmentation(config).measure_all()


class Segmentation(Protocol[SegmentationConfig, SegmentationSplit]):
    """A linear head, or nearest neighbours, on the patches of a frozen encoder."""

    name = "segmentation"

    def __init__(self, config: SegmentationConfig, path: Path | None = None) -> None:
        super().__init__(config, path)
        self.checked: list[bool] = []  # shared by the seeds

    def encoder_options(self) -> dict[str, Any]:
        """See ``Protocol``."""
        return {"mean": self.config.mean, "std": self.config.std}

    def load(self) -> tuple[SegmentationSplit, SegmentationSplit]:
        """See ``read_splits``."""
        config = self.config
        return read_splits(
            config.data, (config.train_split, config.test_split), config.named_classes or None, config.reduce_zero_label
        )

    def prepare(self) -> None:
        """See ``Protocol``."""
        self.preset = self.config.resolved()
        self.precision = pick_precision(self.config.precision, self.device)
        side = self.preset.crop if self.preset.probe == "linear" else self.preset.size
        option = "size" if self.preset.probe == "knn" or self.config.crop is None else "crop"
        self.check_sides((side, side), option)
        if self.seed == self.seeds[0]:
            for line in (*self.train.remarks, *self.test.remarks):
                note(line)

    @property
    def dataset(self) -> str:
        """See ``Protocol``."""
        return self.config.data.resolve().name

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        config, preset = self.config, self.preset
        settings = {name: value for name, value in asdict(preset).items() if name in self._of_probe()}
        del settings["source"]
        told = {name: list(value) for name, value in (("mean", config.mean), ("std", config.std)) if value is not None}
        return {
            "name": "segmentation",
            "layout": self.train.layout,
            "train": self.train.name,
            "test": self.test.name,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "classes": list(self.train.classes),
            "reduce_zero_label": self.train.reduce_zero_label,
            "features": f"patches of the last layer, evaluation mode, {COMPUTED[self.precision]}",
            **{name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
            **({"normalise": told} if told else {}),
            **({"predicted_void": "one more class, of IoU 0"} if preset.probe == "knn" else {}),
            "metric": "mIoU",
        }

    def _of_probe(self) -> tuple[str, ...]:
        return OF_KNN if self.preset.probe == "knn" else OF_LINEAR

    @cached_property
    def training(self) -> Entry:
        """The identity of a checkpoint. It leaves out the test's settings, so that another test can reuse the head."""
        said = {name: value for name, value in self.said.items() if name not in TEST_ONLY}
        return {**self.key, "protocol": said, "encoder_sha256": self.encoder.sha256}

    @property
    def folder(self) -> Path | None:
        """See ``Protocol``."""
        if self.preset.probe == "knn":
            return None
        return self.config.out / f"segmentation-{digest_json(self.training)[:8]}"

    def figures(self) -> Entry:
        """See ``Protocol``."""
        values, told = self._by_neighbours() if self.preset.probe == "knn" else self._by_head()
        return {
            "metric": "mIoU",
            "unit": "percent",
            "value": values["mIoU"],
            "values": values,
            "n": len(self.test),
            "preset": self.config.preset,
            "source": self.preset.source,
            **told,
        }

    # A linear head

    def _by_head(self) -> tuple[dict[str, Any], Entry]:
        preset, config = self.preset, self.config
        self._check_readable()
        with memory_named(preset.batch_size, SMALLER):
            trainer = HeadTrainer(
                self._frozen(preset.batch_size), preset, len(self.train.classes), self.seed, self._batches
            )
            run = Run(trainer, self._course(), self.processes)
            run.announce()
            run.go_on()
        trainer.encoder = self._frozen(config.feature_batch)
        return self._tested(trainer), {"seconds": round(run.seconds, 1), "last_loss": run.last.get("loss")}

    def _check_readable(self) -> None:
        """Once for all seeds, and hours before it would be noticed."""
        if not self.checked:
            for split in (self.train, self.test):
                check_readable(split, self.config.workers)
            self.checked.append(True)

    def _frozen(self, batch_size: int) -> FrozenEncoder:
        return FrozenEncoder(self.encoder.module, self.encoder.facts, self.device, batch_size, self.precision)

    def _batches(self, steps: range) -> Iterator[tuple[Pixels, Mask]]:
        fill = tuple(round(255 * mean) for mean in self.encoder.facts.mean)
        return training_batches(self.train, self.preset, fill, self.seed, steps, self.config.workers)

    def _course(self) -> Course:
        folder = self.folder
        assert folder is not None
        return Course(
            out=self.config.out,
            folder=folder.name,
            label="training",
            unit="step",
            total=self.preset.steps,
            batch_size=self.preset.batch_size,
            smaller=SMALLER,
            config={**self.training, "versions": {"torch": torch.__version__}},
            identity=self.training,
            lines=(self.config.log_every,),
            checkpoint_every=self.config.checkpoint_every,
            restart=self.config.force,
            shown={"loss": ".3f"},
        )

    def _tested(self, trainer: HeadTrainer) -> dict[str, Any]:
        preset, test = self.preset, self.test

        def load(index: int) -> tuple[Pixels, Mask]:
            image, mask = test.open(index)
            return test_view(image, preset.size), mask

        found = predictions(
            ahead(load, range(len(test)), self.config.workers),
            trainer.score,
            crop=preset.crop,
            stride=preset.stride,
            batch_size=self.config.feature_batch,
        )
        confusion = Confusion(len(test.classes))
        with Progress(len(test), "image", "testing") as progress:
            for truth, predicted in found:
                confusion.add(truth, predicted)
                progress.update(1)
        return confusion.figures(test.classes)

    # Nearest neighbours

    def _by_neighbours(self) -> tuple[dict[str, Any], Entry]:
        train, held = self._parts()
        features, labels, grid = self._patches(self.train)
        per_image = grid[0] * grid[1]
        fitted = usable(labels)
        mean, scale = statistics(features, _rows(train, per_image))
        patches = Patches(features=features, labels=labels, mean=mean, scale=scale)
        tried = self._chosen(patches, fitted[np.isin(fitted // per_image, train)], _rows(held, per_image))
        best = max(tried, key=lambda one: one["value"])  # of equal ones the first
        features, labels, _ = self._patches(self.test)
        queries = Patches(features=features, labels=labels, mean=mean, scale=scale)
        every = np.arange(len(queries), dtype=np.int64)
        rows = nearest(patches, fitted, queries, every, best["k"], best["distance"], self.device)
        confusion = self._counted(labels, every, rows, patches)
        figures = confusion.figures(self.test.classes)
        values = {**figures, "mIoU": confusion.mean_iou(void_counts=True), "mIoU_without_void": figures["mIoU"]}
        return values, {"k": best["k"], "distance": best["distance"], "grid": tried, "patches": list(grid)}

    def _parts(self) -> tuple[Ints, Ints]:
        """Training images to fit on, and those held out to choose by."""
        key = derive("segmentation-held-out", self.seed)
        order = np.random.RandomState([key & 0xFFFFFFFF, key >> 32]).permutation(len(self.train)).astype(np.int64)
        count = len(order) // self.preset.held_out
        if not count:
            raise DataError(
                f"{self.train.title}: {len(order)} images; wanted at least {self.preset.held_out}, of which one in "
                f"{self.preset.held_out} is held out to choose by"
            )
        return np.sort(order[count:]), np.sort(order[:count])

    def _chosen(self, patches: Patches, fitted: Ints, held: Ints) -> list[dict[str, Any]]:
        """The value of each setting on the images held out: one search for each distance serves all k."""
        preset = self.preset
        if not len(fitted):
            raise DataError(f"{self.train.title}: no patch is mostly of a class; wanted masks with classes")
        found = {
            distance: nearest(patches, fitted, patches, held, max(preset.neighbours), distance, self.device)
            for distance in preset.distances
        }
        values = []
        for k, distance in product(preset.neighbours, preset.distances):
            confusion = self._counted(patches.labels, held, found[distance][:, :k], patches)
            values.append({"k": k, "distance": distance, "value": confusion.mean_iou(void_counts=True)})
        return values

    def _counted(self, labels: Labels, rows: Ints, neighbours: Ints, keys: Patches) -> Confusion:
        """Each row's pixels, and what its neighbours' say of them."""
        confusion = Confusion(len(self.test.classes))
        for first in range(0, len(rows), VOTERS):
            confusion.add(labels[rows[first : first + VOTERS]], voted(keys, neighbours[first : first + VOTERS]))
        return confusion

    def _patches(self, split: SegmentationSplit) -> tuple[Tensor, Labels, tuple[int, int]]:
        """Features of all patches of a split, the classes of their pixels, and the patches of an image by row and column."""
        side = self.preset.size
        label = f"patches of {split.title}"
        features = stored_features(
            self._cache(), self._features_key(split), len(split), lambda: self._computed(split), label
        )
        high, wide = int(features.shape[1]), int(features.shape[2])
        if side % high or side % wide:
            raise ConfigError.naming(
                "{size} {}: the encoder makes {}x{} patches of it; wanted a multiple, so that each has whole pixels",
                side,
                high,
                wide,
            )
        return features.reshape(-1, features.shape[3]), self._labels(split, (high, wide)), (high, wide)

    def _labels(self, split: SegmentationSplit, grid: tuple[int, int]) -> Labels:
        """The classes of the pixels of each patch, in a file without a name, of which nothing is left, whatever ends us."""
        side = self.preset.size
        masks = ahead(lambda i: square_mask(split.mask(i), side), range(len(split)), self.config.workers)
        with faults_named(self.config.out), tempfile.TemporaryFile(dir=self.config.out) as file:
            for mask in masks:
                file.write(patch_labels(mask[None], grid).tobytes())
            file.flush()
            return np.memmap(file, dtype=np.uint8, mode="r").reshape(len(split) * grid[0] * grid[1], -1)

    def _computed(self, split: SegmentationSplit) -> Iterator[Tensor]:
        """Shape of each: ``(images, h, w, C)``."""
        config, side = self.config, self.preset.size
        views = ahead(lambda i: square_view(split.open(i)[0], side), range(len(split)), config.workers)
        counts = (min(config.feature_batch, len(split) - k) for k in range(0, len(split), config.feature_batch))
        pixels = (np.stack(list(islice(views, count))) for count in counts)
        frozen = self.encoder.module, self.encoder.facts
        for found in token_batches(
            *frozen, pixels, self.device, batch_size=config.feature_batch, precision=self.precision
        ):
            yield found.patches.reshape(len(found.patches), *found.grid, -1)

    def _cache(self) -> Path | None:
        return self.config.out / FOLDER if self.config.cache else None

    def _features_key(self, split: SegmentationSplit) -> dict[str, Any]:
        facts = self.encoder.facts
        return {
            "encoder_sha256": self.encoder.sha256,
            "images": split.inventory.contents_digest,
            "transform": f"patches of Resize({self.preset.size}x{self.preset.size}, bicubic)",
            "normalise": [list(facts.mean), list(facts.std)],
            "device": self.device.type,
            "precision": self.precision,
        }


def _rows(images: Ints, per_image: int) -> Ints:
    """The rows of the patches of images."""
    return (images[:, None] * per_image + np.arange(per_image)).ravel()
