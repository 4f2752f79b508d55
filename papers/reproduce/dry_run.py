"""The text of ``--dry-run``: the tasks in order, their needs, their estimated times, and the files that they leave.

Times follow from what was measured here, or from images per second of stated hardware: as a file says they were measured, else
as they follow from a network's operations. Operations are floating-point ones, two for each multiplication with its addition.
Kinds of work have names that a person can write into a file of measured rates:

    train resnet50 112         an image of 112 px through the encoder, forward and backward
    forward resnet50 128       through the frozen encoder
    generate bigbigan          an image of a generator
    steer bigbigan             a sample of fit-steer
    navigator bigbigan 112     an anchor of fit-navigator, with the size of what f sees
    train detector, forward detector      an image of VOC through Faster R-CNN R50-C4

``resnet18-cifar`` is the ResNet with the stem for small images. A backward pass costs two forward passes, or one
where weights get no gradient.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from genrep.errors import ConfigError
from genrep.evaluate.table import aligned
from genrep.untrusted import one_line, shown

from ..report.rows import duration
from ..tasks.scheduling import Estimates, TimeEstimate, find_slots, total_of
from ..tasks.task import Task, all_tasks, open_tasks
from .config import ReproduceConfig
from .planning import TablePlan
from .reporting import hardware_text
from .run import plan_of
from .works import Work, work_of

FULL = "a100"  # whose times are told at full scale, where no other hardware is stated
# Widths and numbers of blocks; the bottleneck of the deeper ones has four times the width.
BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
WIDTHS = (64, 128, 256, 512)
# GFLOPs of an image: convolutions and products of the published architectures, as a count over their layers gives them.
GENERATORS = {
    "bigbigan": 42.2,  # BigGAN, 128 px, 96 channels, attention at 64 px
    "biggan_deep_256": 58.8,
    "stylegan2_car": 119.3,  # config F at 512 px
    "stylegan2_car_hl": 119.3,
    "stylegan2_cifar10": 8.0,
    "stylegan2_fashion": 0.0273,
    "stylegan2_fashion_cond": 0.0273,
}
# Faster R-CNN R50-C4: stages up to res4 at 640 x 853 px (the mean of 480 … 800) or 800 x 1067, res5 on 512 or 1,000 regions.
DETECTOR_FORWARD = {
    "train": 6.55 * 640 * 853 / 224**2 + 512 * 1.62,
    "forward": 6.55 * 800 * 1067 / 224**2 + 1000 * 1.62,
}
BACKWARD = 2.0  # forward passes; half of it without gradients of the weights
KIND = re.compile(
    r"(?:(?P<mode>train|forward) (?:detector|(?P<arch>resnet\d+)(?P<stem>-cifar)? (?P<size>\d+))"
    r"|(?P<fit>generate|steer|navigator) (?P<generator>\w+)(?: (?P<seen>\d+))?)"
)
HARDWARE_FILE = "hardware.toml"
MEASURED = "images_per_s"  # the table of a file
LARGEST_FILE = 1_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class PlanDescription:
    """The tasks of a reproduction, and how long they may take."""

    plan: TablePlan
    scale: str
    every: list[Task]
    times: _Times  # of those that are to do

    def to_json(self) -> dict[str, Any]:
        """For ``--json``: a task's ``seconds`` are None where it is done, not needed, or of unknown time."""
        numbers = {task.id: number for number, task in enumerate(self.every, 1)}
        tasks = [
            {
                "number": numbers[task.id],
                "folder": task.folder,
                "needs": [numbers[need.id] for need in task.needs],
                "to_do": (to_do := task.id in self.times.of),
                "seconds": self.times.of[task.id].seconds if to_do and not self.times.of[task.id].unknown else None,
                "bytes": round(work_of(task).bytes) if to_do else None,
            }
            for task in self.every
        ]
        return {
            "title": self.plan.title,
            "scale": self.scale,
            "tasks": tasks,
            "says": [*self.plan.says, *self.times.says],
        }

    def __str__(self) -> str:
        numbers = {task.id: str(number) for number, task in enumerate(self.every, 1)}
        lines = [["", "task", "needs", "time", "size"]]
        for task in self.every:
            needs = " ".join(numbers[need.id] for need in task.needs)
            open_ = task.id in self.times.of
            told = (
                [_text(self.times.of[task.id]), size_text(work_of(task).bytes)] if open_ else ["done or not needed", ""]
            )
            lines.append([numbers[task.id], task.folder, needs, *told])
        todo = [task for task in self.every if task.id in self.times.of]
        rows = f"{len(self.plan.rows)} rows, " if self.plan.rows else ""
        size = size_text(sum(work_of(task).bytes for task in todo))
        summary = f"{rows}{len(self.every)} tasks, {len(todo)} to do" + (self.times.total() if todo else "")
        summary += f"; about {size} on disk" if size else ""
        head = [f"{self.plan.title} ({self.scale})", *self.plan.says, ""]
        return "\n".join([*head, *aligned(lines), "", f"{summary}.", *self.times.says])


def describe_plan(config: ReproduceConfig) -> PlanDescription:
    """The plan with its times; as text by ``str``.

    Raises:
        ValueError: names or options that do not go together, or hardware that cannot be read.
    """
    plan, out = plan_of(config), config.out.resolve()
    stated = config.hardware or (FULL if config.scale == "full" else None)
    hardware = None if stated is None else find_hardware(stated)
    todo = open_tasks(plan.goals, out)
    times = _on_stated(hardware, todo) if hardware is not None else _on_this(config, todo)
    return PlanDescription(plan=plan, scale=config.scale, every=all_tasks(plan.goals), times=times)


class _Times:
    """Times of tasks, and their sources."""

    def __init__(self, of: dict[str, TimeEstimate], says: list[str]) -> None:
        self.of, self.says = of, says

    def total(self) -> str:
        """A sentence about all tasks together."""
        total = total_of(self.of.values())
        if total.unknown == len(self.of):
            return ", of unknown time"
        told = _text(replace(total, unknown=0))
        return f": {told} one after another" + (f", and {total.unknown} of unknown time" if total.unknown else "")


def _on_stated(hardware: Hardware, todo: list[Task]) -> _Times:
    """The times that the stated hardware would take."""
    works = {task.id: work_of(task) for task in todo}
    kinds = {kind for work in works.values() for kind in work.images}
    hardware.check(kinds)
    of = {name: TimeEstimate(seconds=hardware.seconds(work), rough=True) for name, work in works.items()}
    says = [
        f"Times are those of {hardware.name} (--hardware states another).",
        *(hardware.says(kinds) if works else []),
    ]
    return _Times(of, says)


def _on_this(config: ReproduceConfig, todo: list[Task]) -> _Times:
    """The times by measurements of this machine, or of another one."""
    slot = find_slots(config.device, config.jobs)[0]
    estimates = Estimates(config.out.resolve(), slot)
    of = {task.id: estimates.of(task) for task in todo}
    where = f"on this machine: {hardware_text({'device': slot.name, 'cores': len(slot.cores)})}."
    rough = any(one.rough for one in of.values())
    more = " Times told as 'about' were measured on another machine with no more cores." if rough else ""
    return _Times(of, [f"Times are those of finished tasks of the same kind, in proportion to size, {where}{more}"])


def _text(estimate: TimeEstimate) -> str:
    if estimate.unknown:
        return "unknown"
    return ("about " if estimate.rough else "") + duration(estimate.seconds)


def size_text(count: float) -> str:
    """Bytes for people.

    >>> size_text(3.2e9), size_text(5e4)
    ('3.2 GB', '0.1 MB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{max(count / 1e6, 0.1):.1f} MB" if count else ""


def gflops(kind: str) -> float:
    """GFLOPs of one image, or of one sample of a fit.

    >>> round(gflops("forward resnet50 224"), 1), round(gflops("train resnet50 112"), 1)
    (8.2, 6.5)

    Raises:
        ValueError: no such kind of work, or a generator that is not one of the papers'.
    """
    match = KIND.fullmatch(kind)
    if match is None:
        raise ValueError(f"{kind!r}: wanted work such as 'train resnet50 112' or 'generate bigbigan'")
    times = 1 + BACKWARD if match["mode"] == "train" else 1.0
    if match["arch"] is not None:
        if match["arch"] not in BLOCKS:
            raise ValueError(f"{kind!r}: wanted one of {', '.join(BLOCKS)}")
        return times * resnet_gflops(match["arch"], "cifar" if match["stem"] else "imagenet", int(match["size"]))
    if match["mode"] is not None:
        return times * DETECTOR_FORWARD[match["mode"]]
    if match["generator"] not in GENERATORS:
        raise ValueError(f"{kind!r}: wanted one of {', '.join(GENERATORS)}")
    image = GENERATORS[match["generator"]]
    if match["fit"] == "generate":
        return image
    through = image * (2 + BACKWARD / 2)  # the anchor; the moved one and back to its latent
    if match["fit"] == "steer":
        return through
    # f learns from two views (forward and backward), then judges them (without gradients of its weights).
    return through + 2 * resnet_gflops("resnet18", "imagenet", int(match["seen"] or 128)) * (2 + 1.5 * BACKWARD)


def resnet_gflops(arch: str, stem: str, size: int) -> float:
    """GFLOPs of an image of ``size`` pixels through a ResNet, without its classifier."""
    bottleneck = arch not in ("resnet18", "resnet34")
    side = size if stem == "cifar" else _halved(size)
    total = _conv(3, 64, 3 if stem == "cifar" else 7, side)
    side = side if stem == "cifar" else _halved(side)
    channels = 64
    for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS[arch])):
        out = width * (4 if bottleneck else 1)
        for block in range(blocks):
            before, side = side, _halved(side) if stage and not block else side
            if bottleneck:  # its stride is on the 3x3 convolution
                total += _conv(channels, width, 1, before) + _conv(width, width, 3, side) + _conv(width, out, 1, side)
            else:
                total += _conv(channels, width, 3, side) + _conv(width, out, 3, side)
            total += _conv(channels, out, 1, side) if channels != out else 0.0
            channels = out
    return total / 1e9


def _conv(channels: int, out: int, kernel: int, side: int) -> float:
    return 2.0 * channels * out * kernel**2 * side**2


def _halved(side: int) -> int:
    return -(-side // 2)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One device with its CPU cores."""

    name: str
    bf16_tflops: float | None = None  # peaks; None: only measured rates are known
    tf32_tflops: float | None = None
    sustained: float = 0.15  # of the peak, supposed
    cores: int = 16
    decode_ms_per_megapixel: float = 3.3
    encode_ms_per_megapixel: float = 3.7
    measured: Mapping[str, float] = field(default_factory=dict)  # images/s by kind of work

    def rate(self, kind: str) -> float:
        """Images per second of a kind of work that is measured, or follows from a peak (see ``check``)."""
        if kind in self.measured:
            return self.measured[kind]
        return 1000 * (self._peak(kind) or math.nan) * self.sustained / gflops(kind)

    def check(self, kinds: Iterable[str]) -> None:
        """Raises ValueError for kinds of work that are neither measured nor follow from a peak."""
        missing = sorted(kind for kind in set(kinds) if kind not in self.measured and self._peak(kind) is None)
        if missing:
            names = ", ".join(map(repr, missing))
            raise ConfigError.naming(
                '{hardware} {}: no images/s of {}; wanted them, or like = "a100"', self.name, names
            )

    def _peak(self, kind: str) -> float | None:
        return self.bf16_tflops if kind.startswith("train resnet") else self.tf32_tflops

    def seconds(self, work: Work) -> float:
        """Seconds of a task, whose device and CPU cores work side by side."""
        device = sum(count / self.rate(kind) for kind, count in work.images.items())
        pixels = work.decoded * self.decode_ms_per_megapixel + work.encoded * self.encode_ms_per_megapixel
        host = (pixels / 1e9 + work.core_seconds) / self.cores
        return work.seconds + max(device, host)

    def says(self, kinds: Iterable[str]) -> list[str]:
        """Where the rates of these kinds of work are from."""
        kinds = sorted(set(kinds))
        derived = [kind for kind in kinds if kind not in self.measured]
        lines = []
        if len(derived) < len(kinds):
            told = ", ".join(f"{kind} {self.measured[kind]:,.0f}" for kind in kinds if kind in self.measured)
            lines.append(f"Images/s as the file says: {told}.")
        if derived:
            told = ", ".join(f"{kind} {self.rate(kind):,.0f} ({gflops(kind):,.3g} GFLOP)" for kind in derived)
            lines.append(
                f"Images/s derived, not measured, as {100 * self.sustained:g} % of the peak ({self.bf16_tflops:g} TFLOP/s in "
                f"bfloat16, for trainings, {self.tf32_tflops:g} in TF32) over the network's operations: {told}."
            )
        lines.append(
            f"JPEGs at {self.decode_ms_per_megapixel:g} ms a megapixel and core to decode, {self.encode_ms_per_megapixel:g} "
            "to encode; half a byte a pixel; one task after another."
        )
        return lines


def known_hardware() -> dict[str, Hardware]:
    """The known hardware by name."""
    content = tomllib.loads((files(__package__) / HARDWARE_FILE).read_text(encoding="utf-8"))
    return {name: Hardware(**value) for name, value in content.items()}


def find_hardware(text: str) -> Hardware:
    """A name, or a TOML file: ``name``, ``like`` (whose numbers hold where it says none), any field, and images/s.

    Raises:
        ConfigError: there is no such file, or it says what this cannot use.
    """
    known = known_hardware()
    if text in known:
        return known[text]
    path = Path(text).expanduser()
    if not path.is_file():
        raise ConfigError.naming("{hardware} {}: wanted {}, or a TOML file of images/s", shown(text), ", ".join(known))
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"more than {LARGEST_FILE:,} bytes")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = one_line(str(error))
        raise ConfigError.naming("{hardware} {}: cannot be read as TOML ({})", shown(text), reason) from error
    try:
        return _read(content, known, path.stem)
    except ValueError as error:
        raise ConfigError.naming("{hardware} {}: {}", shown(text), error) from error


def _read(content: Mapping[str, Any], known: Mapping[str, Hardware], stem: str) -> Hardware:
    """A file's content. Raises ValueError."""
    rest = dict(content)
    parent, measured = rest.pop("like", None), rest.pop(MEASURED, {})
    if parent is not None and parent not in known:
        raise ValueError(f"like is {shown(parent)}, wanted one of {', '.join(known)}")
    if not isinstance(measured, dict):
        raise ValueError(f"{MEASURED} is {shown(measured)}, wanted a table")
    fields = set(vars(Hardware(name=""))) - {"measured"}
    for name, value in rest.items():
        if name not in fields:
            raise ValueError(f"unknown {shown(name)}; known: like, {MEASURED}, {', '.join(sorted(fields))}")
        good = isinstance(value, str) if name == "name" else _positive(value)
        if not good or (name == "sustained" and value > 1) or (name == "cores" and not isinstance(value, int)):
            raise ValueError(f"{name} is {shown(value)}, wanted a {'name' if name == 'name' else 'positive number'}")
    for kind, rate in measured.items():
        if not _positive(rate):
            raise ValueError(f"{MEASURED}: {shown(kind)} is {shown(rate)}, wanted a positive number")
        try:
            gflops(kind)
        except ValueError as error:
            raise ValueError(f"{MEASURED}: {one_line(str(error))}") from error
    base = known[parent] if parent is not None else Hardware(name=stem)
    return replace(base, **{"name": stem, **rest}, measured=measured)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
