"""Detection from a config to an entry of ``detection.json``."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from genrep.devices import pick_precision
from genrep.errors import TrainingError
from genrep.evaluate.protocol import Protocol, Results
from genrep.evaluate.results import Entry
from genrep.evaluate.voc.layout import VocSplit, measured_classes, read_split
from genrep.progress import Progress, note
from genrep.runs.sanity import check_training

from .config import DetectionConfig
from .data import check_readable, training_batches
from .folder import Metrics, load_checkpoint, prepare, run_folder, save_checkpoint
from .network import build_detector
from .testing import UNCOUNTED, check_installed, detect, measure, uncounted
from .training import Trainer

TEST_ONLY = ("test", "test_data", "test_sha256", "test_size", "test_max_size", "rpn_test", "precise_bn", "value")


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
            raise TrainingError(f"--batch-size {size}: wanted a multiple of the {self.processes.size} processes")

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
        """What a checkpoint belongs to: nothing that only the test knows, so that another test uses the detector again."""
        said = {name: value for name, value in self.said.items() if name not in TEST_ONLY}
        return {**self.key, "protocol": said, "encoder_sha256": self.encoder.sha256}

    @property
    def folder(self) -> Path:
        """See ``Protocol``."""
        return run_folder(self.config.out, self.training)

    def figures(self) -> Entry:
        """See ``Protocol``."""
        self.processes.first_does(self._check_images)
        try:
            run = Run(self)
            run.go_on()
            values = run.test()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"--batch-size {self.preset.batch_size}: does not fit the GPU's memory; "
                "try a smaller one with a smaller --lr"
            ) from error
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


class Run:
    """A detector at work, from its checkpoint or its beginning to its test."""

    def __init__(self, task: Detection) -> None:
        self.task, self.first = task, task.processes.first
        generator = torch.Generator(task.processes.device)
        model = build_detector(
            task.encoder,
            task.preset,
            num_classes=len(task.train.classes),
            seed=task.config.seed,
            generator=generator,
            norm=task.config.norm,
            bf16=task.preset.precision == "bf16",
        )
        self.trainer = Trainer(model, task.preset, task.config.seed, generator, task.processes, task.folder)
        self.seconds = 0.0
        state = load_checkpoint(task.folder, task.processes.device)
        if state is not None and not (task.config.force and state["trainer"]["step"] == task.preset.steps):
            self.trainer.load_state_dict(state["trainer"])
            self.seconds = state["seconds"]
        if self.first:
            prepare(task.folder, task.training)
            self.metrics = Metrics(task.folder, after_step=self.trainer.step)

    def go_on(self) -> None:
        """Train to the last step."""
        config, preset, trainer = self.task.config, self.task.preset, self.trainer
        if trainer.step and self.first:
            note(f"going on after step {trainer.step} of {preset.steps}")
        started, before = time.monotonic(), self.seconds
        bar = Progress(preset.steps, "step", "training", initial=trainer.step) if self.first else nullcontext()
        with bar as progress:
            for batch in self._batches(range(trainer.step, preset.steps)):
                values = trainer.train_step(batch)
                self.seconds = before + time.monotonic() - started
                if progress is None:
                    continue
                last = trainer.step == preset.steps
                self.metrics.add(values)
                if trainer.step % config.log_every == 0 or last:
                    self.metrics.flush(trainer.step, self.seconds)
                if trainer.step % config.checkpoint_every == 0 or last:
                    self._checkpoint()
                progress.update(1, loss=f"{values['loss']:.3f}")

    def test(self) -> dict[str, Any]:
        """Measure the statistics of batch norm and test the detector; in the first process only, the figures."""
        task = self.task
        if task.preset.precise_bn:
            if self.first:
                note("measuring the statistics of batch norm")
            steps = range(task.preset.steps, task.preset.steps + task.preset.precise_bn)
            self.trainer.measure_norms(self._batches(steps))
        if not self.first:
            return {}
        found = detect(
            self.trainer.bare, task.test.images, task.preset, task.processes.device, workers=task.config.workers
        )
        return measure(task.test, found)

    def _batches(self, steps: range) -> Any:
        task = self.task
        return training_batches(
            task.train.images,
            task.preset,
            task.config.seed,
            steps,
            rank=task.processes.rank,
            world_size=task.processes.size,
            workers=task.config.workers,
        )

    def _checkpoint(self) -> None:
        check_training(self.task.config.out, self.trainer.step, self.trainer.bare.state_dict(), way="try a lower --lr")
        save_checkpoint(self.task.folder, {"trainer": self.trainer.state_dict(), "seconds": self.seconds})
