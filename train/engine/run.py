"""A whole run: from a config to ``encoder.safetensors``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genrep.cli import Terminated
from genrep.encoders import ENCODER_FILE, save_encoder
from genrep.errors import TrainingError
from genrep.files import locked_folder
from genrep.progress import Progress, note
from genrep.runs.processes import Processes, join
from genrep.runs.signals import Requests, requests

from ..config import TrainConfig
from ..data.loader import Batch
from ..objectives.base import Decoder
from .curves import draw_curves
from .folder import (
    BEST_FILE,
    check_same_run,
    is_finished,
    keep_inventories,
    load_checkpoint,
    save_checkpoint,
    write_config,
)
from .plan import Plan, resolve
from .records import Alarms, Line, Records
from .samples import Samples, open_samples
from .trainer import Trainer

if TYPE_CHECKING:
    from .knn import LiveKnn


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    encoder: Path
    plan: Plan
    first: bool = True  # whether this process is the one that wrote it
    already_finished: bool = False
    loss: float | None = None  # mean of the last logged steps
    images_per_s: float | None = None  # views through the network, over the whole run


def train(config: TrainConfig) -> TrainResult:
    """Train until the last step, from the checkpoint in ``out`` if there is one, and write the encoder.

    Started by torchrun, all its processes train one encoder together, and the first one writes.

    Raises:
        GenRepError: the samples cannot be read, ``out`` holds another run, or the training cannot go on.
    """
    with join(config.device) as processes, ExitStack() as stack:
        samples = open_samples(config, processes.device)
        plan = resolve(config, samples.facts, processes.device, processes.size)
        encoder = plan.config.out / ENCODER_FILE

        def enter() -> bool:
            stack.enter_context(locked_folder(plan.config.out))
            check_same_run(plan.config.out, plan, samples.inventories)
            keep_inventories(plan.config.out, samples.inventories)
            return is_finished(plan.config.out)

        if processes.first_does(enter):
            return TrainResult(encoder=encoder, plan=plan, first=processes.first, already_finished=True)
        asked = stack.enter_context(requests())
        try:
            run = Run(plan, samples, processes, asked)
            run.go_on()
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"--batch-size {plan.config.batch_size}: does not fit the GPU's memory") from error
        if processes.first:
            run.trainer.check()
            draw_curves(plan.config.out)
            save_encoder(encoder, run.trainer.encoder, plan.encoder_facts())
        images = plan.views_per_step * plan.total_steps
        return TrainResult(
            encoder=encoder,
            plan=plan,
            first=processes.first,
            loss=run.last_loss,
            images_per_s=images / max(run.clock.seconds, 1e-9),
        )


class Clock:
    """Seconds of training over all processes of the run, one after another."""

    def __init__(self, seconds: float) -> None:
        self.before, self.since = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Until now."""
        return self.before + time.monotonic() - self.since


class Run:
    """A run at work: trainer, loader and records, and the loop over epochs."""

    def __init__(self, plan: Plan, samples: Samples, processes: Processes, asked: Requests) -> None:
        self.plan, self.processes, self.asked = plan, processes, asked
        config, out = plan.config, plan.config.out
        self.trainer = Trainer(plan, samples.facts, processes, _decoder(config, processes.device))
        self.loader = samples.loader(plan.config, plan.num_views, self.trainer.fields, processes.rank, processes.size)
        self.last_loss: float | None = None
        self.best: dict[str, Any] | None = None  # of the encoder in BEST_FILE: metric, value, step
        self.written = time.monotonic()  # the last checkpoint
        state = load_checkpoint(out, processes.device)
        seconds = 0.0
        if state is not None:
            self.trainer.load_state_dict(state["trainer"])
            self.loader.load_state_dict(state["loader"])
            seconds, self.last_loss, self.best = state["seconds"], state["last_loss"], state["best"]
        if processes.first:
            write_config(out, plan)
        self.knn = _live_knn(plan, processes)
        self.records = Records(out, processes, after_step=self.trainer.step)
        self.records.restore(state["records"] if state is not None else [])
        self.alarms = Alarms(
            plan.config.out, plan.config.collapse_std, plan.config.collapse_steps, single_view=plan.num_views == 1
        )
        self.clock = Clock(seconds)

    def go_on(self) -> None:
        """Train from where the trainer stands to the last step."""
        plan, trainer = self.plan, self.trainer
        self._announce()
        per_step = plan.views_per_step
        total = plan.total_steps * per_step
        try:
            with Progress(
                total, "image", "training", initial=trainer.step * per_step, silent=not self.processes.first
            ) as bar:
                while trainer.step < plan.total_steps:
                    self._epoch(bar)
        finally:
            self.records.close()

    def _announce(self) -> None:
        plan = self.plan
        if not self.processes.first:
            return
        if self.trainer.step:
            note(f"going on after step {self.trainer.step} of {plan.total_steps}")
        if plan.dropped_per_epoch:
            pairs = f"{plan.dropped_per_epoch} of {plan.num_pairs} pairs"
            note(f"each epoch drops its incomplete last batch: {pairs}, others in every epoch")

    def _epoch(self, bar: Progress) -> None:
        """The rest of the loader's epoch, or up to the last step; then what is due."""
        plan, trainer, epoch = self.plan, self.trainer, self.loader.epoch
        for batch, waited in timed(self.loader):
            output = trainer.train_step(batch, epoch)
            self.records.add(output, plan.views_per_step, waited)
            if trainer.step % plan.config.log_every == 0:
                self._log(epoch)
            facts = {} if self.last_loss is None else {"loss": f"{self.last_loss:.3f}"}
            bar.update(plan.views_per_step, epoch=epoch, **facts)
            if trainer.step == plan.total_steps:
                break
            if self.loader.epoch == epoch:  # a checkpoint after the last step would miss what follows here
                self._between_steps()
        line = self._log(epoch)
        done = trainer.step == plan.total_steps
        self._keep_best(epoch, line, done=done)
        due = (epoch + 1) % plan.config.checkpoint_every == 0 or done
        if due:
            self._checkpoint()
        if not done:
            self._between_steps(written=due)

    def _log(self, epoch: int) -> Line | None:
        line = self.records.flush(self.trainer.step, epoch, self.trainer.rates.rate(self.trainer.step - 1))
        if line is not None:
            self.alarms.check(line)
            self.trainer.check()
            self.last_loss = line["loss"]
        return line

    def _keep_best(self, epoch: int, line: Line | None, *, done: bool) -> None:
        """After an epoch: kNN accuracy if it is due, and the encoder if it is the best by it so far."""
        plan = self.plan
        if self.knn is None or plan.config.knn_every is None or ((epoch + 1) % plan.config.knn_every and not done):
            return
        value = self.knn.top1(self.trainer.encoder)
        self.records.write({"step": self.trainer.step, "epoch": epoch, "knn_top1": value})
        if self.best is None or value > self.best["value"]:
            self.trainer.check()
            self.best = {"metric": "knn_top1", "value": value, "step": self.trainer.step}
            save_encoder(plan.config.out / BEST_FILE, self.trainer.encoder, plan.encoder_facts())

    def _between_steps(self, *, written: bool = False) -> None:
        """What signals ask for, and a checkpoint if the last one is old; ``written``: there is one of this step."""
        old = time.monotonic() - self.written > 60 * self.plan.config.checkpoint_minutes
        if old or self.asked.checkpoint or self.asked.stop:
            self.asked.checkpoint = False
            if not written:
                self._checkpoint()
        # The other processes would leave the first one waiting for them, short of its checkpoint: they end with it.
        if self.asked.stop and self.processes.first:
            raise Terminated

    def _checkpoint(self) -> None:
        self.written = time.monotonic()
        if not self.processes.first:
            return
        self.trainer.check()
        state = {
            "trainer": self.trainer.state_dict(),
            "loader": self.loader.state_dict(),
            "records": self.records.state(),
            "seconds": self.clock.seconds,
            "last_loss": self.last_loss,
            "best": self.best,
        }
        save_checkpoint(self.plan.config.out, state, keep=self.plan.config.keep_checkpoints)


def _live_knn(plan: Plan, processes: Processes) -> LiveKnn | None:
    if not plan.config.knn_every or not processes.first:
        return None
    from .knn import LiveKnn

    return LiveKnn(plan, processes.device)


def _decoder(config: TrainConfig, device: torch.device) -> Decoder | None:
    if config.objective != "autoencoder" or config.gen is None:
        return None
    from genrep.across import open_decoder

    decoder: Decoder = open_decoder(config.gen, weights=config.weights, truncation=config.truncation, device=device)
    return decoder


def timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    iterator = iter(batches)
    while True:
        started = time.monotonic()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.monotonic() - started
