"""Detection from a config to an entry of ``detection.json``."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from genrep.encoders import LoadedEncoder
from genrep.encoders.devices import pick_precision
from genrep.errors import TrainingError
from genrep.evaluate.encoders import open_encoder
from genrep.evaluate.results import Entry, add, data_digests, encoder_facts, find_or_tell, same_encoder, tell_changes
from genrep.evaluate.voc.choice import measured_classes
from genrep.evaluate.voc.layout import VocSplit, read_split
from genrep.files import locked_folder, require_writable
from genrep.progress import Progress, note
from genrep.runs.processes import Processes, join
from genrep.runs.sanity import check_training

from .config import DetectionConfig
from .data import check_readable, training_batches
from .folder import Metrics, load_checkpoint, prepare, run_folder, save_checkpoint
from .network import build_detector
from .presets import Preset
from .testing import UNCOUNTED, check_installed, detect, measure, uncounted
from .training import Trainer

RESULT_FILE = "detection.json"
TEST_ONLY = ("test", "test_data", "test_sha256", "test_size", "test_max_size", "rpn_test", "precise_bn", "value")


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
    training: Entry  # what its checkpoint belongs to: nothing that only the test knows
    folder: Path


def evaluate_detection(config: DetectionConfig) -> DetectionResult:
    """Fine-tune Faster R-CNN on an encoder and test it; goes on from the run's checkpoint if there is one.

    Under torchrun every process takes its part of each batch, and the first one tests.

    Raises:
        GenRepError: the encoder or the data cannot be read, the training cannot go on, or ``out`` holds this result for
            another encoder.
    """
    check_installed()
    require_writable(config.out, "--out")
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
                note(line)
        with locked_folder(config.out):
            splits = [(f"split {split.name}", split.inventory) for split in (task.train, task.test)]
            tell_changes(config.out, task.key["dataset"], splits)
            return _work(task)


def _task(config: DetectionConfig, preset: Preset, place: Processes) -> _Task:
    encoder = open_encoder(
        encoder=config.encoder, random_init=config.random_init, arch=config.arch, stem=config.stem, seed=config.seed
    )
    train, test = _read(config, silent=not place.first)
    # Every image is read for them: by one process.
    data = place.first_does(lambda: data_digests(train.inventory, test.inventory))
    dataset = "+".join(folder.resolve().name for folder in config.data)
    key: Entry = {"dataset": dataset, "protocol": protocol(config, preset, train, test, data), "seed": config.seed}
    training = {**key, "protocol": _of_training(key["protocol"]), "encoder_sha256": encoder.sha256}
    return _Task(
        config=config,
        preset=preset,
        encoder=encoder,
        train=train,
        test=test,
        processes=place,
        key=key,
        training=training,
        folder=run_folder(config.out, training),
    )


def _read(config: DetectionConfig, *, silent: bool) -> tuple[VocSplit, VocSplit]:
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


def protocol(
    config: DetectionConfig, preset: Preset, train: VocSplit, test: VocSplit, data: dict[str, str]
) -> dict[str, Any]:
    """Everything that must agree for two results to stand in one column; ``data``: see ``results.data_digests``."""
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(preset).items() if name != "source"}
    return {
        "name": "detection",
        "detector": "Faster R-CNN C4, end to end, norm after res5",
        "norm": config.norm,
        "train": f"{train.name}, {len(train)} images",
        "test": f"{test.name}, {len(test)} images",
        "test_data": (config.test_data or config.data[0]).resolve().name,
        **data,
        "classes": list(train.classes),
        "value": "VOC07 11-point AP, mean over classes and overlaps .5, .55, …, .95; difficult objects ignored",
        **settings,
    }


def _of_training(said: dict[str, Any]) -> dict[str, Any]:
    """The part of a protocol that the trained detector depends on: with another test list or size it is used again."""
    return {name: value for name, value in said.items() if name not in TEST_ONLY}


def _work(task: _Task) -> DetectionResult:
    config, path = task.config, task.config.out / RESULT_FILE
    old = task.processes.first_does(lambda: find_or_tell(path, task.key))
    if old is not None and not config.force:
        return DetectionResult(
            path=path, folder=task.folder, entry=same_encoder(old, task.encoder, path), already_done=True
        )
    task.processes.first_does(lambda: _check_images(task))
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


def _check_images(task: _Task) -> None:
    """Hours before they are needed: raises DataError, naming the images of both splits that cannot be read."""
    for split in (task.train, task.test):
        check_readable(split, task.config.workers)


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
