"""A whole run: from a config to ``encoder.safetensors``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from genrep.encoders import ENCODER_FILE, EncoderFacts, save_encoder
from genrep.errors import TrainingError
from genrep.files import locked_folder
from genrep.progress import Progress

from .config import TrainConfig
from .engine import Trainer
from .folder import check_same_run, is_finished, load_checkpoint, save_checkpoint, write_config
from .loader import Batch, PairLoader
from .plan import Plan, resolve
from .records import Alarms, Records


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    encoder: Path
    plan: Plan
    already_finished: bool = False
    loss: float | None = None  # mean of the last logged steps
    images_per_s: float | None = None  # views through the network, over the whole run


def train(config: TrainConfig) -> TrainResult:
    """Train until the last step, from the checkpoint in ``out`` if there is one, and write the encoder.

    Raises:
        GenRepError: the dataset is unfinished or damaged, ``out`` holds another run, or the training cannot go on.
    """
    plan = resolve(config)
    out = config.out
    encoder = out / ENCODER_FILE
    with locked_folder(out):
        check_same_run(out, plan)
        if is_finished(out):
            return TrainResult(encoder=encoder, plan=plan, already_finished=True)
        try:
            run = Run(plan)
            run.go_on()
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"--batch-size {plan.batch_size}: does not fit the GPU's memory") from error
        facts = EncoderFacts(arch=plan.arch, stem=plan.stem, size=plan.crop, mean=plan.mean, std=plan.std)
        save_encoder(encoder, run.trainer.encoder, facts)
    images = 2 * plan.batch_size * plan.total_steps
    return TrainResult(encoder=encoder, plan=plan, loss=run.last_loss, images_per_s=images / run.seconds)


@dataclass
class Run:
    """A run at work: trainer, loader and records, and the loop over epochs."""

    plan: Plan
    trainer: Trainer = field(init=False)
    loader: PairLoader = field(init=False)
    records: Records = field(init=False)
    alarms: Alarms = field(init=False)
    seconds: float = 0.0  # of training, over all processes of the run
    last_loss: float | None = None

    def __post_init__(self) -> None:
        plan, out = self.plan, self.plan.out
        self.trainer = Trainer(plan)
        self.loader = PairLoader(
            plan.data,
            batch_size=plan.batch_size,
            seed=plan.seed,
            fields=self.trainer.fields,
            random_positive=plan.positive == "random",
            limit=plan.limit,
            drop_last=True,
            workers=plan.workers,
            pin_memory=plan.device == "cuda",
        )
        state = load_checkpoint(out, self.trainer.device)
        if state is not None:
            self.trainer.load_state_dict(state["trainer"])
            self.loader.load_state_dict(state["loader"])
            self.seconds, self.last_loss = state["seconds"], state["last_loss"]
        write_config(out, plan)
        self.records = Records(out, after_step=self.trainer.step)
        self.alarms = Alarms(plan.collapse_std, plan.collapse_steps)

    def go_on(self) -> None:
        """Train from where the trainer stands to the last step."""
        plan, trainer = self.plan, self.trainer
        self._announce()
        per_step = 2 * plan.batch_size
        total = plan.total_steps * per_step
        try:
            with Progress(total, "image", "training", initial=trainer.step * per_step) as progress:
                while trainer.step < plan.total_steps:
                    self._epoch(progress)
        finally:
            self.records.close()

    def _announce(self) -> None:
        plan = self.plan
        if self.trainer.step:
            print(f"going on after step {self.trainer.step} of {plan.total_steps}", file=sys.stderr)
        if plan.dropped_per_epoch:
            pairs = f"{plan.dropped_per_epoch} of {plan.num_pairs} pairs"
            print(f"each epoch drops its incomplete last batch: {pairs}, others in every epoch", file=sys.stderr)

    def _epoch(self, progress: Progress) -> None:
        """The rest of the loader's epoch, or up to the last step; then a checkpoint if one is due."""
        plan, trainer, epoch = self.plan, self.trainer, self.loader.epoch
        started, before = time.monotonic(), self.seconds
        for batch, waited in timed(self.loader):
            loss, spread = trainer.train_step(batch, epoch)
            self.records.add(loss, spread, 2 * plan.batch_size, waited)
            if trainer.step % plan.log_every == 0:
                self._log(epoch)
            facts = {} if self.last_loss is None else {"loss": f"{self.last_loss:.3f}"}
            progress.update(2 * plan.batch_size, epoch=epoch, **facts)
            if trainer.step == plan.total_steps:
                break
        self._log(epoch)
        self.seconds = before + time.monotonic() - started
        if (epoch + 1) % plan.checkpoint_every == 0 or trainer.step == plan.total_steps:
            self._checkpoint()

    def _log(self, epoch: int) -> None:
        line = self.records.flush(self.trainer.step, epoch, self.trainer.optimiser.param_groups[0]["lr"])
        if line is not None:
            self.alarms.check(line)
            self.last_loss = line["loss"]

    def _checkpoint(self) -> None:
        state = {
            "trainer": self.trainer.state_dict(),
            "loader": self.loader.state_dict(),
            "seconds": self.seconds,
            "last_loss": self.last_loss,
        }
        save_checkpoint(self.plan.out, state)


def timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    iterator = iter(batches)
    while True:
        started = time.monotonic()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.monotonic() - started
