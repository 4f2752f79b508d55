"""Run tasks as processes, one in each slot, until all that can be done is done; what each took, and estimates from that.

Times are in ``tasks/<id>/task.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from genrep.errors import ConfigError, ResumeError
from genrep.files import locked_folder, write_atomic, write_json
from genrep.machine import core_numbers, processor, restrict
from genrep.progress import QUIET_VARIABLE

from .task import LOG_FILE, RECORD_FILE, TASKS, Task, open_tasks, read_record

RATES_FILE = "rates.toml"
_NAMES = (
    "import json, torch; print(json.dumps([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]))"
)
POLL, RETRY = 0.1, 2.0  # seconds between looks at processes, and at what another run is doing
GRACE = 120.0  # seconds that a command has to write its checkpoint


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a task may run."""

    device: str  # cpu or cuda, as commands take it
    name: str  # of the hardware
    visible: str  # CUDA_VISIBLE_DEVICES
    cores: frozenset[int]


def find_slots(device: str, jobs: int | None) -> list[Slot]:
    """One slot per GPU, or one on the CPU; or ``jobs`` slots, distributed over the GPUs. Each has its part of the cores.

    Raises:
        ConfigError: ``device`` is cuda, but there is no GPU.
    """
    gpus = [] if device == "cpu" else _gpus()
    if device == "cuda" and not gpus:
        raise ConfigError.naming("{device} cuda: PyTorch finds no GPU; wanted {device} cpu")
    count = jobs or max(1, len(gpus))
    cores = core_numbers()
    parts = [frozenset(cores[i::count]) or frozenset(cores) for i in range(count)]
    if not gpus:
        return [Slot(device="cpu", name=processor(), visible="", cores=part) for part in parts]
    places = [gpus[i % len(gpus)] for i in range(count)]
    return [Slot(device="cuda", name=name, visible=number, cores=part) for (number, name), part in zip(places, parts)]


def _gpus() -> list[tuple[str, str]]:
    """Their numbers for CUDA_VISIBLE_DEVICES, and names; asked in another process, so that this one holds no GPU."""
    found = subprocess.run([sys.executable, "-c", _NAMES], capture_output=True, text=True, check=False)
    try:
        names = json.loads(found.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return []
    numbers = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(numbers) < len(names) or not numbers[0]:
        numbers = [str(i) for i in range(len(names))]
    return list(zip(numbers, names))


def record_path(out: Path, task: Task) -> Path:
    """A task's record."""
    return out / TASKS / task.id / RECORD_FILE


def add_piece(out: Path, task: Task, slot: Slot, argv: list[str], seconds: float, *, finished: bool) -> None:
    """Add the time of a process to a task's record."""
    path = record_path(out, task)
    old = read_record(path)
    pieces = [*old.get("pieces", []), round(seconds, 1)]
    write_json(
        path,
        {
            "task": task.folder,
            "command": argv[1:],
            "seconds": round(sum(pieces), 1),
            "pieces": pieces,  # one unless the task was stopped
            "finished": finished,
            "device": slot.name,
            "cores": len(slot.cores),
            "like": task.like,
            "units": task.units,
        },
    )


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """How long something may take."""

    seconds: float  # of what is known
    rough: bool = False  # some of it by ``RATES_FILE``
    unknown: int = 0  # tasks that nothing is known of


class Estimates:
    """How long tasks take, by the same kind of task that was finished on the same hardware; else roughly, as we measured it."""

    def __init__(self, out: Path, slot: Slot) -> None:
        self.shipped = shipped_rates(slot.device, len(slot.cores))
        self.rates: dict[str, list[float]] = {}
        for path in sorted((out / TASKS).glob(f"*/{RECORD_FILE}")):
            record = read_record(path)
            same = (record.get("device"), record.get("cores")) == (slot.name, len(slot.cores))
            if same and record["finished"] and record["units"]:
                self.rates.setdefault(record["like"], []).append(record["seconds"] / record["units"])

    def seconds(self, task: Task) -> float | None:
        """The median of those of its kind, in proportion to its size; None: there was none."""
        rates = self.rates.get(task.like)
        return statistics.median(rates) * task.units if rates else None

    def of(self, task: Task) -> TimeEstimate:
        """The time by tasks finished here, else by our own measurements."""
        if (seconds := self.seconds(task)) is not None:
            return TimeEstimate(seconds=seconds)
        if (rate := self.shipped.get(task.kin)) is not None:
            return TimeEstimate(seconds=rate * task.units, rough=True)
        return TimeEstimate(seconds=0.0, unknown=1)


def total_of(estimates: Iterable[TimeEstimate]) -> TimeEstimate:
    """One after another."""
    found = list(estimates)
    return TimeEstimate(
        seconds=sum(one.seconds for one in found),
        rough=any(one.rough for one in found),
        unknown=sum(one.unknown for one in found),
    )


def shipped_rates(device: str, cores: int) -> Mapping[str, float]:
    """Seconds per unit by ``Task.kin``, as measured elsewhere on ``cores`` or, if there is no such, fewer; often none."""
    known = tomllib.loads((files(__package__) / RATES_FILE).read_text(encoding="utf-8"))["measured"]
    fitting = [one for one in known if one["device"] == device and one["cores"] <= cores]
    return max(fitting, key=lambda one: one["cores"])["seconds"] if fitting else {}


@dataclass
class Running:
    """A running process with its task, slot and lock."""

    task: Task
    slot: int
    process: subprocess.Popen[bytes]
    argv: list[str]
    started: float
    held: contextlib.ExitStack


@dataclass
class Outcome:
    """The outcome of the tasks."""

    done: list[Task] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # why, by folder; blocked ones too


class Scheduler:
    """Runs the tasks that remain for the goals.

    A failed task fails only the tasks that need it. Each task is held by a lock on its record's folder, which its process
    inherits: a second scheduler waits for what the first is doing, and takes its result.
    """

    def __init__(self, out: Path, slots: list[Slot], values: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.out, self.slots, self.values, self.say = out, slots, values, say
        self.running: list[Running] = []
        self.outcome = Outcome()
        self.retry_at: dict[str, float] = {}

    def run(self, goals: Iterable[Task]) -> Outcome:
        """Run the tasks. On any exception, including SIGINT and SIGTERM, the processes are asked to end and waited for."""
        self.waiting = open_tasks(goals, self.out)
        self.total = len(self.waiting)
        try:
            while self.waiting or self.running:
                self._reap()
                self._start()
                time.sleep(POLL)
        except BaseException:
            self._stop()
            raise
        return self.outcome

    def _start(self) -> None:
        """Fill the free slots with tasks whose needs are there."""
        for task in list(self.waiting):
            free = set(range(len(self.slots))) - {one.slot for one in self.running}
            broken = [need.folder for need in task.needs if need.folder in self.outcome.failed]
            if broken:
                self.outcome.failed[task.folder] = f"not started: {broken[0]} failed"
                self.waiting.remove(task)
            elif free and time.monotonic() >= self.retry_at.get(task.id, 0) and self._ready(task):
                self._begin(task, min(free))

    def _ready(self, task: Task) -> bool:
        unfinished = {one.id for one in self.waiting} | {one.task.id for one in self.running}
        return not any(need.id in unfinished for need in task.needs)

    def _begin(self, task: Task, slot: int) -> None:
        held = contextlib.ExitStack()
        try:
            lock = held.enter_context(locked_folder(self.out / TASKS / task.id))
        except ResumeError:
            if task.id not in self.retry_at:
                self.say(f"{task.folder}: another process is working on it; waiting")
            self.retry_at[task.id] = time.monotonic() + RETRY
            return
        self.waiting.remove(task)
        if task.done(self.out):  # by another run, meanwhile
            held.close()
            self.outcome.done.append(task)
            return
        try:
            self.running.append(self._spawn(task, slot, lock, held))
        except BaseException:
            held.close()
            raise
        self.say(f"{task.folder}: started on {self.slots[slot].name}" + self._count())

    def _spawn(self, task: Task, number: int, lock: int, held: contextlib.ExitStack) -> Running:
        slot = self.slots[number]
        if task.views is not None:
            file = self.out / task.given["views"]
            file.parent.mkdir(exist_ok=True)
            write_atomic(file, task.views.encode(), shared=True)
        (self.out / task.folder).mkdir(parents=True, exist_ok=True)
        if task.kind == "dataset":  # a manifest that came without its shards counts as a finished set
            (self.out / task.folder / task.final).unlink(missing_ok=True)
        argv = task.command(self.values, slot.device)
        # PYTHONSAFEPATH: a folder of the working directory must not stand in for a package.
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        environment.pop(QUIET_VARIABLE, None)  # of our stderr, not of a task's log
        if not task.verb.prints:  # which is the one task of its table, and has all devices
            environment["CUDA_VISIBLE_DEVICES"] = slot.visible
        mine = core_numbers()
        restrict(slot.cores)
        try:
            with (
                open(self.out / TASKS / task.id / LOG_FILE, "ab") as log,
                open(self.out / task.folder / task.final, "wb") if task.verb.prints else log as stdout,
            ):
                process = subprocess.Popen(
                    argv,
                    cwd=self.out,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=log,
                    start_new_session=True,  # a terminal's SIGINT is ours to pass on
                    pass_fds=(lock,),
                )
        finally:
            restrict(mine)
        return Running(task, number, process, argv, time.monotonic(), held)

    def _reap(self) -> None:
        """Take note of processes that have ended."""
        for one in list(self.running):
            if one.process.poll() is None:
                continue
            self.running.remove(one)
            seconds = time.monotonic() - one.started
            good = self._note(one, seconds)
            if good:
                self.outcome.done.append(one.task)
                self.say(f"{one.task.folder}: done in {seconds:.0f} s" + self._count())
            else:
                why = f"{_ending(one.process.returncode)}: {self._last_line(one.task)}"
                self.outcome.failed[one.task.folder] = why
                self.say(f"{one.task.folder}: {why}")

    def _note(self, one: Running, seconds: float) -> bool:
        """Write the record; whether the task is done."""
        # A result that is written last counts, even if the signal came a moment later.
        good = one.task.has_result(self.out) and (one.task.whole or one.process.returncode == 0)
        add_piece(self.out, one.task, self.slots[one.slot], one.argv, seconds, finished=good)
        one.held.close()
        return good

    def _last_line(self, task: Task) -> str:
        log = self.out / TASKS / task.id / LOG_FILE
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = next(
            (line for line in reversed(lines) if line.startswith("Error: ")), lines[-1] if lines else "said nothing"
        )
        return f"{said.removeprefix('Error: ')} (log: {log})"

    def _count(self) -> str:
        return f" ({len(self.outcome.done)} of {self.total})"

    def _stop(self) -> None:
        """Pass SIGTERM on, so that commands write their checkpoints; kill what has not ended in time, or at a second signal."""
        for one in self.running:
            with contextlib.suppress(ProcessLookupError):
                one.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + GRACE
        try:
            while any(one.process.poll() is None for one in self.running) and time.monotonic() < until:
                time.sleep(POLL)
        finally:
            for one in self.running:
                if one.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(one.process.pid, signal.SIGKILL)
                    one.process.wait()
                self._note(one, time.monotonic() - one.started)
            self.running.clear()


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
