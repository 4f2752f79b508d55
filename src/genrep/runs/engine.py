"""The loop of every long run: from its checkpoint, if there is one, to its last step.

Each kind of run supplies a ``Trainer`` and a ``Course``, its demands on the loop. The engine does what all kinds need. It
resumes from the checkpoint. It writes config.json, lines of metrics and checkpoints, and draws pictures when they are due. It
answers signals between two steps. It ends a diverged training before anything of it is written. Of several processes, only
the first writes.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import Phrase, TrainingError, phrase
from ..progress import Progress, note
from .checkpoints import Checkpoints
from .folder import made_with, write_config
from .metrics import Line, Metrics, Window
from .processes import Processes
from .sanity import LARGEST_GRADIENT, check_losses, check_training
from .signals import Requests, requests

SMALLER = phrase("try a smaller one, in a new {out}")  # out of a batch that does not fit in memory
LOWER_RATE = phrase("try a lower {lr}")  # out of a training that has diverged


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The pace of the steps since the last line of metrics."""

    steps: int
    elapsed: float  # seconds
    seconds: float  # of training until now, over all processes of the run one after another


class Trainer(Protocol):
    """A kind of run: the state that a step changes, and its metrics. Every draw of a step is a function of (seed, step)."""

    step: int  # updates so far
    counts: str = "step"  # how errors count: in updates, or as ``position`` says

    @abstractmethod
    def train_step(self) -> Mapping[str, Tensor | float]:
        """Take one update. Returns the measured scalars by name; a line of metrics holds their means."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that a later process needs to go on: tensors, numbers, text and containers of them."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """The weights and buffers to check for divergence, by name."""

    def gradients(self) -> Mapping[str, Tensor]:
        """The gradients of the last step, if they are to be checked."""
        return {}

    @property
    def position(self) -> int:
        """Where the run stands, counted in ``counts``."""
        return self.step

    @property
    def ended(self) -> bool:
        """Whether it stops before the course's end."""
        return False

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """A line of metrics. Called in every process."""
        return {"step": self.step, **means, "seconds": round(pace.seconds, 3)}

    def alarm(self, line: Line) -> None:
        """Raise TrainingError where a line says that nothing can become of the run."""
        return

    def told(self, line: Line) -> None:
        """Receive a line that was written, for other records of the run. Called in the first process only."""
        return

    def after_step(self, run: Run) -> None:
        """Do what is due after a step and its line of metrics, before a checkpoint."""
        return

    def pictures(self) -> None:
        """Draw and keep pictures of the present state. Called when the course says that a checkpoint is due."""
        return

    def close(self) -> None:
        """Let go of what the steps used."""
        return


@dataclass(frozen=True, kw_only=True)
class Course:
    """How far a run goes, and when it tells and keeps what. Lengths are counted in ``unit``s."""

    out: Path  # as the option has it, for messages
    folder: str = ""  # the run's folder in it, if it is another
    passing: bool = False  # its result is kept elsewhere: a checkpoint alone, which its caller removes at the end
    label: str  # of the progress bar
    unit: str
    total: int
    per_step: int = 1  # units of an update
    shown_every: int = 1  # units that the progress counts as one
    batch_size: int  # as the option has it, for a batch that does not fit in memory
    smaller: Phrase = SMALLER  # way out of it
    way: Phrase = LOWER_RATE  # out of a training that has diverged
    config: Mapping[str, Any] = field(default_factory=dict)  # what config.json holds
    explained: bool = False  # and beside it the identity, and on what the run is made
    identity: Mapping[str, Any] = field(default_factory=dict)  # the settings that a checkpoint belongs to
    lines: tuple[int, ...] = ()  # a line of metrics after each multiple of one of these updates; none: with checkpoints
    losses: tuple[str, ...] = ("loss",)  # measurements that must be finite
    counts: str = "step"  # that lines of metrics are counted by
    checkpoint_every: int | None  # units; None: a run of seconds, which begins anew
    checkpoint_minutes: float = math.inf
    keep: int = 1  # checkpoints
    at_start: bool = False  # a checkpoint, and pictures, before the first step too
    restart: bool = False  # do not go on from a checkpoint of the last step, begin anew
    shown: Mapping[str, str] = field(default_factory=dict)  # of the last line beside the progress: names and formats


class Run:
    """A run at work in its folder, which is held by its caller."""

    def __init__(self, trainer: Trainer, course: Course, place: Processes) -> None:
        """Take the checkpoint's state, if there is one. Raises ResumeError if it is of other settings, or damaged."""
        self.trainer, self.course, self.place = trainer, course, place
        self.out = course.out / course.folder
        self.checkpoints: Checkpoints | None = None
        self.metrics: Metrics | None = None
        self.window = Window(place)
        self.last: Line = {}  # of metrics
        self.before = 0.0  # seconds of training by earlier processes, and by this one without what is not training
        if course.checkpoint_every is not None:
            self.checkpoints = Checkpoints(self.out, course.identity, keep=course.keep, passing=course.passing)
            with self.checkpoints.open(place.device) as state:
                if state is not None and not (course.restart and self._is_whole(state)):
                    self._take(state)
        if place.first and not course.passing:
            self.out.mkdir(parents=True, exist_ok=True)
            more = {"identity": course.identity, "made_with": made_with(place.device)} if course.explained else {}
            write_config(self.out, {**course.config, **more})
            self.metrics = Metrics(self.out, after=trainer.position, by=course.counts)
        self.since = self.marked = self.saved = time.monotonic()
        self.timed = 0  # steps since the last line, by this process
        self.at_work = False

    def _take(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        self.window.restore(state["window"])
        self.last, self.before = state["last"], state["seconds"]

    def _is_whole(self, state: dict[str, Any]) -> bool:
        return bool(state["trainer"]["step"] * self.course.per_step >= self.course.total)

    @property
    def units(self) -> int:
        """How far it is."""
        return self.trainer.step * self.course.per_step

    @property
    def finished(self) -> bool:
        """Whether there are no steps left."""
        return self.units >= self.course.total or self.trainer.ended

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without the time for pictures."""
        return self.before + (time.monotonic() - self.since if self.at_work else 0.0)

    def go_on(self) -> None:
        """Train from where the trainer stands to the end, whose state the checkpoint holds then.

        Raises:
            TrainingError: the training has diverged, a batch does not fit in memory, or the launcher has ended.
        """
        course, trainer, first = self.course, self.trainer, self.place.first
        every = course.shown_every
        if course.at_start and not trainer.step:
            self._save(pictures=True)
        self.since = self.marked = self.saved = time.monotonic()
        self.at_work = True
        try:
            with (
                memory_named(course.batch_size, course.smaller),
                requests() as asked,
                Progress(
                    course.total // every, course.unit, course.label, initial=self.units // every, silent=not first
                ) as bar,
            ):
                while not self.finished:
                    self.window.add(trainer.train_step())
                    self.timed += 1
                    self._after_step(asked)
                    if more := self.units // every - (self.units - course.per_step) // every:
                        facts = {name: format(self.last[name], form) for name, form in self._shown().items()}
                        bar.update(more, **facts)
        finally:
            self.before, self.at_work = self.seconds, False
            trainer.close()

    def _shown(self) -> dict[str, str]:
        return {name: form for name, form in self.course.shown.items() if isinstance(self.last.get(name), (int, float))}

    def _after_step(self, asked: Requests) -> None:
        """A line, a checkpoint and pictures where they are due; then what signals ask for."""
        course, step = self.course, self.trainer.step
        due = course.checkpoint_every is not None and self._passed(course.checkpoint_every)
        if any(step % every == 0 for every in course.lines) or (due and not course.lines) or self.finished:
            self._log()  # which may end the run by its rule
        self.trainer.after_step(self)
        orphaned, old = self.place.orphaned, time.monotonic() - self.saved > 60 * course.checkpoint_minutes
        if due or self.finished:
            self._save(pictures=True)
        elif asked.checkpoint or asked.stop or orphaned or old:
            self._save(pictures=False)
        asked.checkpoint = False
        # The other processes would leave the first one waiting for them, short of its checkpoint: they end with it.
        if asked.stop and self.place.first:
            asked.end()
        if orphaned and self.place.first and not self.finished:
            raise TrainingError.naming(
                "{out} {}: the launcher of this run's processes has ended; they stop after step {}, "
                "where the same command resumes",
                course.out,
                step,
            )

    def _passed(self, every: int) -> bool:
        """Whether the last step came to a multiple of so many units, or went past it."""
        return self.units // every > (self.units - self.course.per_step) // every

    def _log(self) -> None:
        """A line of metrics: means over the steps since the last one. The only place that waits for the device."""
        if not len(self.window):
            return
        means, now = self.window.means(), time.monotonic()
        pace = Pace(steps=self.timed, elapsed=max(now - self.marked, 1e-9), seconds=self.seconds)
        line = self.trainer.line(means, pace)
        self.trainer.alarm(line)
        losses = {name: means[name] for name in self.course.losses}
        check_losses(self.course.out, self.trainer.position, losses, way=self.course.way, unit=self.trainer.counts)
        self.check()
        self.last = line
        self.write(line)
        self.window.clear()
        self.marked, self.timed = now, 0

    def write(self, line: Line) -> None:
        """Write a line of metrics, in the first process."""
        if self.metrics is not None:
            self.metrics.write(line)
            self.trainer.told(line)

    def check(self) -> None:
        """Raises TrainingError if weights or gradients are not those of a training that goes well."""
        out, way, trainer = self.course.out, self.course.way, self.trainer
        at, unit = trainer.position, trainer.counts
        check_training(out, at, trainer.weights(), way=way, unit=unit)
        check_training(out, at, trainer.gradients(), way=way, unit=unit, largest=LARGEST_GRADIENT)

    def _save(self, *, pictures: bool) -> None:
        self.saved = time.monotonic()
        if not self.place.first or self.checkpoints is None:
            return
        self.check()  # a checkpoint of weights that have diverged would end every later run too
        if pictures:
            with self._paused():
                self.trainer.pictures()
        state = {
            "trainer": self.trainer.state_dict(),
            "window": self.window.state(),
            "last": self.last,
            "seconds": self.seconds,
        }
        self.checkpoints.write(self.trainer.step, state)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """The time inside is not training."""
        started = time.monotonic()
        try:
            yield
        finally:
            away = time.monotonic() - started
            self.since, self.marked = self.since + away, self.marked + away

    def forget(self) -> None:
        """Remove a passing run's checkpoint, once its result is written."""
        if self.checkpoints is not None:
            self.checkpoints.remove()

    def announce(self) -> None:
        """Say that the run goes on, if it does."""
        if self.trainer.step and self.place.first:
            note(f"resuming after step {self.trainer.step} of {-(-self.course.total // self.course.per_step)}")


@contextmanager
def memory_named(batch_size: int, way: Phrase = SMALLER) -> Iterator[None]:
    """Turn a lack of memory in the block into a TrainingError about the batch, with the way out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            where = "the GPU's memory"
        elif isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate" in str(error):
            where = "this machine's memory"
        else:
            raise
        raise TrainingError.naming("{batch_size} {}: does not fit {}; {}", batch_size, where, way) from error
