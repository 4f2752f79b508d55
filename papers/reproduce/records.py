"""What tasks took, on what: ``tasks/<id>/task.json``, and the estimates that follow from it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from genrep.files import write_json

from .tasks import RECORD_FILE, TASKS, Task, read_record

RATES_FILE = "rates.toml"
_NAMES = (
    "import json, torch; print(json.dumps([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]))"
)


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a task may run."""

    device: str  # cpu or cuda, as commands take it
    name: str  # of the hardware
    visible: str  # CUDA_VISIBLE_DEVICES
    cores: frozenset[int]


def find_slots(device: str, jobs: int | None) -> list[Slot]:
    """One slot for each GPU, or one on the CPU; or ``jobs`` of them, over the GPUs in turn, each with its part of the cores.

    Raises:
        ValueError: ``--device cuda`` where there is none.
    """
    gpus = [] if device == "cpu" else _gpus()
    if device == "cuda" and not gpus:
        raise ValueError("--device cuda: PyTorch finds no GPU; wanted --device cpu")
    count = jobs or max(1, len(gpus))
    cores = sorted(os.sched_getaffinity(0))
    parts = [frozenset(cores[i::count]) or frozenset(cores) for i in range(count)]
    if not gpus:
        return [Slot(device="cpu", name=_cpu(), visible="", cores=part) for part in parts]
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


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine() or "CPU"


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
class Estimate:
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

    def of(self, task: Task) -> Estimate:
        """By what was finished here, else by what we measured."""
        if (seconds := self.seconds(task)) is not None:
            return Estimate(seconds=seconds)
        if (rate := self.shipped.get(task.kin)) is not None:
            return Estimate(seconds=rate * task.units, rough=True)
        return Estimate(seconds=0.0, unknown=1)


def total_of(estimates: Iterable[Estimate]) -> Estimate:
    """One after another."""
    found = list(estimates)
    return Estimate(
        seconds=sum(one.seconds for one in found),
        rough=any(one.rough for one in found),
        unknown=sum(one.unknown for one in found),
    )


def shipped_rates(device: str, cores: int) -> Mapping[str, float]:
    """Seconds per unit by ``Task.kin``, as measured elsewhere on ``cores`` or, if there is no such, fewer; often none."""
    known = tomllib.loads((files(__package__) / RATES_FILE).read_text(encoding="utf-8"))["measured"]
    fitting = [one for one in known if one["device"] == device and one["cores"] <= cores]
    return max(fitting, key=lambda one: one["cores"])["seconds"] if fitting else {}
