"""Detection from a config to an entry of ``detection.json``."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from genrep.encoders import LoadedEncoder
from genrep.encoders.devices import pick_precision
from genrep.errors import DataError, TrainingError
from genrep.evaluate.encoders import open_encoder
from genrep.evaluate.results import Entry, add, encoder_facts, find, read_results, same_encoder
from genrep.evaluate.voc.layout import VocSplit, read_split
from genrep.files import locked_folder
from genrep.processes import Processes, join
from genrep.progress import Progress

from .config import DetectionConfig
from .data import training_batches
from .folder import Metrics, load_checkpoint, prepare, run_folder, save_checkpoint
from .network import build_detector
from .presets import Preset
from .testing import check_installed, check_measurable, detect, measure
from .training import Trainer

RESULT_FILE = "detection.json"


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """An entry of the result file, and the folder of its run."""

    path: Path
    folder: Path
    entry: Entry
    already_done: bool = False


@dataclass(frozen=True, kw_only=True)
class _Task:
    config: DetectionConfig
    preset: Preset
    encoder: LoadedEncoder
    train: VocSplit
    test: VocSplit
    processes: Processes
    key: Entry  # dataset, protocol, seed
    folder: Path


def evaluate_detection(config: DetectionConfig) -> DetectionResult:
    """Fine-tune Faster R-CNN on an encoder and test it; goes on from the run's checkpoint if there is one.

    Under torchrun every process takes its part of each batch, and the first one tests.

    Raises:
        GenRepError: the encoder or the data cannot be read, the training cannot go on, or ``out`` holds this result for
            another encoder.
    """
    check_installed()
    preset = config.resolved()
    with join(config.device) as place:
        if preset.batch_size % place.size:
            raise TrainingError(f"--batch-size {preset.batch_size}: wanted a multiple of the {place.size} processes")
        preset = replace(preset, precision=pick_precision(preset.precision, place.device))
        task = _task(config, preset, place)
        if not place.first:
            return _work(task)
        for split in (task.train, task.test):
            for line in split.remarks():
                print(line, file=sys.stderr)
        with locked_folder(config.out):
            return _work(task)


def _task(config: DetectionConfig, preset: Preset, place: Processes) -> _Task:
    encoder = open_encoder(
        encoder=config.encoder, random_init=config.random_init, arch=config.arch, stem=config.stem, seed=config.seed
    )
    train = read_split(config.data, config.train_split, config.classes or None)
    train = replace(train, images=tuple(image for image in train.images if len(image.labels)))
    test = read_split([config.test_data or config.data[0]], config.test_split, config.classes or None)
    unknown = sorted(set(test.classes) - set(train.classes))
    if unknown:
        raise DataError(
            f"--test-split {config.test_split}: has class {unknown[0]!r}, which the training images do not have; "
            "give the classes that are meant as --classes"
        )
    if test.classes != train.classes:
        missing = sorted(set(train.classes) - set(test.classes))
        raise DataError(f"--test-split {config.test_split}: has no object of class {missing[0]!r}; give --classes")
    check_measurable(test)
    dataset = "+".join(folder.resolve().name for folder in config.data)
    key = {"dataset": dataset, "protocol": protocol(config, preset, train, test), "seed": config.seed}
    identity = {**key, "encoder_sha256": encoder.sha256}
    return _Task(
        config=config,
        preset=preset,
        encoder=encoder,
        train=train,
        test=test,
        processes=place,
        key=key,
        folder=run_folder(config.out, identity),
    )


def protocol(config: DetectionConfig, preset: Preset, train: VocSplit, test: VocSplit) -> dict[str, Any]:
    """Everything that must agree for two results to stand in one column."""
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(preset).items() if name != "source"}
    return {
        "name": "detection",
        "detector": "Faster R-CNN C4, end to end, norm after res5",
        "norm": config.norm,
        "train": f"{train.name}, {len(train)} images",
        "test": f"{test.name}, {len(test)} images",
        "test_data": (config.test_data or config.data[0]).resolve().name,
        "classes": list(train.classes),
        "value": "VOC07 11-point AP, mean over classes and overlaps .5, .55, …, .95; difficult objects ignored",
        **settings,
    }


def _work(task: _Task) -> DetectionResult:
    config, path = task.config, task.config.out / RESULT_FILE
    old = find(read_results(path), task.key)
    if old is not None and not config.force:
        return DetectionResult(
            path=path, folder=task.folder, entry=same_encoder(old, task.encoder, path), already_done=True
        )
    try:
        run = Run(task)
        run.go_on()
        values = run.test()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"--batch-size {task.preset.batch_size}: does not fit the GPU's memory; try a smaller one with a smaller --lr"
        ) from error
    entry = {**task.key, **_facts(task, values), "seconds": round(run.seconds, 1)}
    if task.processes.first:
        add(path, entry)
    return DetectionResult(path=path, folder=task.folder, entry=entry)


def _facts(task: _Task, values: dict[str, Any]) -> Entry:
    return {
        **encoder_facts(task.encoder, trained=task.encoder.trained),
        "metric": "detection_AP",
        "unit": "percent",
        "value": values.get("voc07", {}).get("AP"),
        "values": values,
        "n": len(task.test),
        "dropped": task.train.remarks() + task.test.remarks(),
        "preset": task.config.preset,
        "source": task.preset.source,
        "device": task.processes.device.type,
        "processes": task.processes.size,
        "versions": {"torch": torch.__version__},
    }


class Run:
    """A detector at work, from its checkpoint or its beginning to its test."""

    def __init__(self, task: _Task) -> None:
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
        self.trainer = Trainer(model, task.preset, task.config.seed, generator, task.processes)
        self.seconds = 0.0
        state = load_checkpoint(task.folder, task.processes.device)
        if state is not None and not (task.config.force and state["trainer"]["step"] == task.preset.steps):
            self.trainer.load_state_dict(state["trainer"])
            self.seconds = state["seconds"]
        if self.first:
            prepare(task.folder, {**task.key, "encoder_sha256": task.encoder.sha256})
            self.metrics = Metrics(task.folder, after_step=self.trainer.step)

    def go_on(self) -> None:
        """Train to the last step."""
        config, preset, trainer = self.task.config, self.task.preset, self.trainer
        if trainer.step and self.first:
            print(f"going on after step {trainer.step} of {preset.steps}", file=sys.stderr)
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
                print("measuring the statistics of batch norm", file=sys.stderr)
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
        save_checkpoint(self.task.folder, {"trainer": self.trainer.state_dict(), "seconds": self.seconds})
