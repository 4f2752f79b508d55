"""Detection from a config to an entry of ``detection.json``.

A run's folder inside ``--out`` is ``detection-XXXXXXXX/``: checkpoint.pt · config.json · metrics.jsonl. The digits are those
of what the run is, so that two runs never share one and the same command finds its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from genrep.devices import pick_precision
from genrep.errors import TrainingError, phrase
from genrep.evaluate.protocol import Protocol, Results
from genrep.evaluate.results import Entry
from genrep.evaluate.voc.layout import VocSplit, measured_classes, read_split
from genrep.files import digest_json
from genrep.progress import note
from genrep.runs.engine import Course, Run, memory_named

from .config import DetectionConfig
from .data import Sample, check_readable, training_batches
from .network import build_detector
from .testing import UNCOUNTED, check_installed, detect, measure, uncounted
from .training import DetectionStep, DetectionTrainer

TEST_ONLY = ("test", "test_data", "test_sha256", "test_size", "test_max_size", "rpn_test", "precise_bn", "value")
SMALLER = phrase("try a smaller one with a smaller {lr}")  # out of a batch that does not fit in memory


def evaluate_detection(config: DetectionConfig) -> Results:
    """Fine-tune Faster R-CNN on an encoder and test it; goes on from the run's checkpoint if there is one.

    Under torchrun every process takes its part of each batch, and the first one tests.

    Raises:
        GenRepError: the encoder or the data cannot be read, the training cannot go on, or ``out`` holds this result for
            another encoder.
    """
    return Detection(config).measure_all()


class Detection(Protocol[DetectionConfig, VocSplit]):
    """Faster R-CNN, fine-tuned on an encoder end to end."""

    name = "detection"
    distributed = True

    def check(self) -> None:
        """See ``Protocol``."""
        check_installed()

    def load(self) -> tuple[VocSplit, VocSplit]:
        """See ``read_splits``."""
        self._check_batch()
        return read_splits(self.config, silent=not self.processes.first)

    def _check_batch(self) -> None:
        size = self.config.resolved().batch_size
        if size % self.processes.size:
            raise TrainingError.naming(
                "{batch_size} {}: wanted a multiple of {}, the number of processes", size, self.processes.size
            )

    def prepare(self) -> None:
        """See ``Protocol``."""
        preset = self.config.resolved()
        self.preset = replace(preset, precision=pick_precision(preset.precision, self.device))
        if self.processes.first:
            for line in self._remarks():
                note(line)

    def _remarks(self) -> list[str]:
        return self.train.remarks() + self.test.remarks()

    @property
    def dataset(self) -> str:
        """See ``Protocol``."""
        return "+".join(folder.resolve().name for folder in self.config.data)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        config, train, test = self.config, self.train, self.test
        settings = asdict(self.preset)
        del settings["source"]
        return {
            "name": "detection",
            "detector": "Faster R-CNN C4, end to end, norm after res5",
            "norm": config.norm,
            "train": f"{train.name}, {len(train)} images",
            "test": f"{test.name}, {len(test)} images",
            "test_data": (config.test_data or config.data[0]).resolve().name,
            "classes": list(train.classes),
            "value": "VOC07 11-point AP, mean over classes and overlaps .5, .55, …, .95; difficult objects ignored",
            **{name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        }

    @cached_property
    def training(self) -> Entry:
        """The identity of a checkpoint. It leaves out the test's settings, so that another test can reuse the detector."""
        said = {name: value for name, value in self.said.items() if name not in TEST_ONLY}
        return {**self.key, "protocol": said, "encoder_sha256": self.encoder.sha256}

    @property
    def folder(self) -> Path:
        """See ``Protocol``."""
        return self.config.out / f"detection-{digest_json(self.training)[:8]}"

    def figures(self) -> Entry:
        """See ``Protocol``."""
        self.processes.first_does(self._check_images)
        with memory_named(self.preset.batch_size, SMALLER):
            trainer = self._trainer()
            run = Run(DetectionTrainer(trainer, self._batches), self._course(), self.processes)
            run.announce()
            run.go_on()
            values = self._test(trainer)
        return {
            "metric": "detection_AP",
            "unit": "percent",
            "value": values.get("voc07", {}).get("AP"),
            "values": values,
            "n": len(self.test),
            "dropped": self._remarks(),
            "preset": self.config.preset,
            "source": self.preset.source,
            "processes": self.processes.size,
            "seconds": round(run.seconds, 1),
        }

    def _trainer(self) -> DetectionStep:
        generator = torch.Generator(self.device)
        model = build_detector(
            self.encoder,
            self.preset,
            num_classes=len(self.train.classes),
            seed=self.config.seed,
            generator=generator,
            norm=self.config.norm,
            bf16=self.preset.precision == "bf16",
        )
        return DetectionStep(model, self.preset, self.config.seed, generator, self.processes, self.folder)

    def _course(self) -> Course:
        return Course(
            out=self.config.out,
            folder=self.folder.name,
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

    def _batches(self, steps: range) -> Iterator[list[Sample]]:
        """This process's part of these steps."""
        return training_batches(
            self.train.images,
            self.preset,
            self.config.seed,
            steps,
            rank=self.processes.rank,
            world_size=self.processes.size,
            workers=self.config.workers,
        )

    def _test(self, trainer: DetectionStep) -> dict[str, Any]:
        """Measure the statistics of batch norm and test the detector; in the first process only, the figures."""
        preset, first = self.preset, self.processes.first
        if preset.precise_bn:
            if first:
                note("measuring the statistics of batch norm")
            trainer.measure_norms(self._batches(range(preset.steps, preset.steps + preset.precise_bn)))
        if not first:
            return {}
        return measure(
            self.test, detect(trainer.bare, self.test.images, preset, self.device, workers=self.config.workers)
        )

    def _check_images(self) -> None:
        """Hours before they are needed: raises DataError, naming the images of both splits that cannot be read."""
        for split in (self.train, self.test):
            check_readable(split, self.config.workers)


def read_splits(config: DetectionConfig, *, silent: bool = False) -> tuple[VocSplit, VocSplit]:
    """Both splits with the same classes; of the training split, the images with objects.

    Raises DataError with every class that has no object in one of them.
    """
    chosen = None if config.measurable else config.classes or None
    first = read_split(config.data, config.train_split, chosen, empty=True)
    second = read_split([config.test_data or config.data[0]], config.test_split, chosen, empty=True)
    classes = first.classes if chosen else tuple(sorted({*first.classes, *second.classes}))
    train, test = first.of_classes(classes), second.of_classes(classes)
    shown = {train.classes[label] for image in train.images for label in image.labels}
    reasons = {name: f"no object in split {train.name}" for name in classes if name not in shown}
    reasons = {**dict.fromkeys(uncounted(test), f"{UNCOUNTED} in split {test.name}"), **reasons}
    left = measured_classes(config.data[0], classes, reasons, measurable=config.measurable, silent=silent)
    train, test = train.of_classes(left), test.of_classes(left)
    return replace(train, images=tuple(image for image in train.images if len(image.labels))), test
