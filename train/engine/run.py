"""A whole training: from a config to ``encoder.safetensors``.

Its folder tells of which settings and images it is: config.json · metrics.jsonl · curves.png · tensorboard/ · inventories/ (of
image folders) · checkpoint.pt, and with --keep-checkpoints older ones · encoder-best.safetensors · encoder.safetensors (last:
its presence means finished).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genrep.datasets_manifest import MANIFEST_NAME
from genrep.encoders import ENCODER_FILE, save_encoder
from genrep.errors import ResumeError
from genrep.files import locked_folder
from genrep.images.inventory import Inventory, changes_since, remember
from genrep.progress import note
from genrep.runs import engine
from genrep.runs.checkpoints import CHECKPOINT_FILE
from genrep.runs.engine import Course, Pace, Run, memory_named
from genrep.runs.folder import CONFIG_FILE, differences, refuse_another
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes, join
from genrep.runs.sanity import gradients
from genrep.untrusted import read_object

from ..config import TrainConfig
from ..data.loader import Batch
from ..objectives.base import Decoder
from ..objectives.pairs import measures
from .records import Alarms, Board, draw_curves
from .samples import Samples, open_samples
from .trainer import EncoderTrainer
from .training_plan import TrainingPlan, resolve

if TYPE_CHECKING:
    from .records import LiveKnn


def check_same_run(out: Path, plan: TrainingPlan, inventories: Sequence[Inventory] = ()) -> None:
    """Raises ResumeError, naming what differs, if the folder belongs to a run with other settings or images.

    ``inventories``: of the image folders that are trained on, in order; see ``keep_inventories``.
    """
    path = out / CONFIG_FILE
    if not path.exists():
        for name in (MANIFEST_NAME, ENCODER_FILE, CHECKPOINT_FILE):
            if (out / name).exists():
                raise ResumeError.naming(
                    "{out} {}: holds {} but no {}; wanted a new folder or a run's own", out, name, CONFIG_FILE
                )
        return
    theirs, ours = read_object(path, ResumeError), plan.identity()
    if found := differences(ours, theirs, ours):
        changed = [changes_since(out, _subject(k), one) for k, one in enumerate(inventories)]
        refuse_another(out, found, "".join(f"; of the images since: {said}" for said in changed if said))


def keep_inventories(out: Path, inventories: Sequence[Inventory]) -> None:
    """Record the image folders that a run is trained on, so that a later error can say what has changed in them."""
    for k, one in enumerate(inventories):
        remember(out, _subject(k), one)


def _subject(number: int) -> str:
    return f"image folder {number}"


def is_finished(out: Path) -> bool:
    """Whether the run's last file is there."""
    return (out / ENCODER_FILE).exists()


BEST_FILE = "encoder-best.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a run."""

    encoder: Path
    plan: TrainingPlan
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
    with join(config.device) as place, ExitStack() as stack:
        samples = open_samples(config, place.device)
        plan = resolve(config, samples.facts, place.device, place.size)
        encoder = plan.config.out / ENCODER_FILE

        def enter() -> bool:
            stack.enter_context(locked_folder(plan.config.out))
            check_same_run(plan.config.out, plan, samples.inventories)
            keep_inventories(plan.config.out, samples.inventories)
            return is_finished(plan.config.out)

        if place.first_does(enter):
            return TrainResult(encoder=encoder, plan=plan, first=place.first, already_finished=True)
        with memory_named(plan.config.batch_size):
            training = Training(plan, samples, place)
            run = Run(training, _course(plan), place)
            training.begin(run)
            run.go_on()
        if place.first:
            run.check()
            draw_curves(plan.config.out)
            save_encoder(encoder, training.trainer.evaluated, plan.encoder_facts())
        images = plan.views_per_step * plan.total_steps
        return TrainResult(
            encoder=encoder,
            plan=plan,
            first=place.first,
            loss=training.last_loss,
            images_per_s=images / max(run.seconds, 1e-9),
        )


def _course(plan: TrainingPlan) -> Course:
    per_step = plan.views_per_step
    return Course(
        out=plan.config.out,
        label="training",
        unit="image",
        total=plan.total_steps * per_step,
        per_step=per_step,
        batch_size=plan.config.batch_size,
        config={**plan.to_json(), "versions": {"torch": torch.__version__}, "threads": torch.get_num_threads()},
        identity={},  # config.json's settings have been compared
        lines=(plan.config.log_every, plan.steps_per_epoch),
        losses=(),  # see Alarms
        checkpoint_every=plan.config.checkpoint_every * plan.steps_per_epoch * per_step,
        checkpoint_minutes=plan.config.checkpoint_minutes,
        keep=plan.config.keep_checkpoints,
        shown={"epoch": "d", "loss": ".3f"},
    )


class Training(engine.Trainer):
    """A training as the engine sees it: the trainer with its samples, over epochs."""

    def __init__(self, plan: TrainingPlan, samples: Samples, place: Processes) -> None:
        self.plan, self.place = plan, place
        self.trainer = EncoderTrainer(plan, samples.facts, place, _decoder(plan.config, place.device))
        self.loader = samples.loader(plan.config, plan.num_views, self.trainer.fields, place.rank, place.size)
        self.batches: Iterator[tuple[Batch, float]] = iter(())
        self.step, self.epoch = 0, 0  # updates so far; the last one's epoch
        self.embeddings: Tensor | None = None  # of the last step
        self.waited = 0.0  # seconds, for batches since the last line
        self.last_loss: float | None = None
        self.best: dict[str, Any] | None = None  # of the encoder in BEST_FILE: metric, value, step
        self.alarms = Alarms(
            plan.config.out,
            plan.config.collapse_std,
            plan.config.collapse_steps,
            single_view=plan.num_views == 1,
            collapsed=self.trainer.objective.collapsed,
        )
        self.knn: LiveKnn | None = None
        self.board: Board | None = None

    def begin(self, run: Run) -> None:
        """Open the further records, once the step that the run begins at is known."""
        plan = self.plan
        if not self.place.first:
            return
        self.knn = _live_knn(plan, self.place)
        self.board = Board(plan.config.out / "tensorboard", self.step)
        run.announce()
        if plan.dropped_per_epoch:
            pairs = f"{plan.dropped_per_epoch} of {plan.num_pairs} pairs"
            note(f"each epoch drops its incomplete last batch: {pairs}, different ones in every epoch")

    def train_step(self) -> Mapping[str, Tensor]:
        """One update on the loader's next batch, with which another epoch may begin."""
        while (found := next(self.batches, None)) is None:
            self.epoch, self.batches = self.loader.epoch, timed(self.loader)
        batch, waited = found
        output = self.trainer.train_step(batch, self.epoch)
        self.step = self.trainer.step
        self.embeddings, self.waited = output.embeddings, self.waited + waited
        return {"loss": output.loss, **output.metrics}

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Means over the processes; the embeddings' are of the last step."""
        assert self.embeddings is not None
        spread = {name: value.double() for name, value in measures(self.embeddings).items()}
        values = self.place.mean(torch.stack(list(spread.values()))).tolist()
        images, waited, self.waited = pace.steps * self.plan.views_per_step, self.waited, 0.0
        self.last_loss = means["loss"]
        return {
            "step": self.step,
            "epoch": self.epoch,
            "lr": self.trainer.rates.rate(self.step - 1),
            **means,
            **dict(zip(spread, values)),
            "images_per_s": round(images / pace.elapsed, 1),
            "data_wait": round(waited / pace.elapsed, 4),  # fraction of the time
        }

    def alarm(self, line: Line) -> None:
        """A loss that is not finite, or embeddings that have collapsed."""
        self.alarms.check(line)

    def told(self, line: Line) -> None:
        """TensorBoard shows it too."""
        if self.board is not None:
            self.board.write(line)

    def after_step(self, run: Run) -> None:
        """After an epoch: kNN accuracy if it is due, and the encoder if it is the best by it so far."""
        plan, step = self.plan, self.step
        if self.knn is None or plan.config.knn_every is None:
            return
        if step % (plan.steps_per_epoch * plan.config.knn_every) and step != plan.total_steps:
            return
        value = self.knn.top1(self.trainer.evaluated)
        run.write({"step": step, "epoch": self.epoch, "knn_top1": value})
        if self.best is None or value > self.best["value"]:
            run.check()
            self.best = {"metric": "knn_top1", "value": value, "step": step}
            save_encoder(plan.config.out / BEST_FILE, self.trainer.evaluated, plan.encoder_facts())

    def weights(self) -> Mapping[str, Tensor]:
        """See ``engine.Trainer``."""
        return self.trainer.module.state_dict()

    def gradients(self) -> Mapping[str, Tensor]:
        """The gradients; None with a scaler, which skips steps whose gradients overflow."""
        return {} if self.trainer.scaler.is_enabled() else gradients([self.trainer.module])

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers; the same in every process but for batch norm's running statistics."""
        return {
            **self.trainer.state_dict(),
            "loader": self.loader.state_dict(),
            "last_loss": self.last_loss,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``, with any number of processes."""
        self.trainer.load_state_dict(state)
        self.step = self.trainer.step
        self.loader.load_state_dict(state["loader"])
        self.last_loss, self.best = state["last_loss"], state["best"]

    def close(self) -> None:
        """End the loader's threads, and flush TensorBoard's file."""
        self.batches = iter(())
        if self.board is not None:
            self.board.close()


def _live_knn(plan: TrainingPlan, place: Processes) -> LiveKnn | None:
    if not plan.config.knn_every:
        return None
    from .records import LiveKnn

    return LiveKnn(plan, place.device)


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
