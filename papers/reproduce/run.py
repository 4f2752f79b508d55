"""A reproduction from settings to a report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genrep.encoders import DEVICES
from genrep.errors import DataError, GenRepError, Terminated, one_of
from genrep.images.sets import SETS, load_pair
from genrep.progress import note

from .planning import Plan, known_encoders, make_plan, usable_generators
from .reporting import make_report, seeds_there
from .scheduling import Scheduler, Slot, find_slots
from .sources import ROOT
from .specs import SCALES, read_scale, read_table
from .tasks import Task, open_tasks


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Settings of a reproduction; what is None is the scale's or the machine's."""

    table: str
    out: Path  # gets every dataset, run and result, and a folder with the report
    scale: str = "small"
    rows: tuple[str, ...] = ()  # their ids; none: all
    seeds: tuple[int, ...] | None = None  # of trainings and evaluations; a row's runs share their data
    root: Path | None = None  # real data
    download: bool = False  # fetch the named sets that are not under root, before any task
    weights: Mapping[str, Path] = field(default_factory=dict)  # of generators, by name
    # Encoders that rows only measure, by name: files or module:factory.
    encoders: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    jobs: int | None = None  # tasks at a time; None: one per GPU, one on a CPU
    hardware: str | None = None  # whose times a dry run tells: a name of hardware.toml, or a file

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        if self.scale not in SCALES:
            raise ValueError(f"--scale {self.scale!r}: wanted one of {one_of(self.scale, SCALES)}")
        if self.device not in DEVICES:
            raise ValueError(f"--device {self.device!r}: wanted one of {one_of(self.device, DEVICES)}")
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: wanted at least 1")
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise ValueError(f"--seeds {','.join(map(str, self.seeds))}: wanted different numbers, at least one")
        if any(not 0 <= seed < 2**63 for seed in self.seeds or ()):
            raise ValueError(f"--seeds {','.join(map(str, self.seeds or ()))}: wanted numbers from 0 and below 2**63")
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"--out {self.out}: {there} is no folder")
        for option, names, taken in (
            ("--weights", self.weights, usable_generators(self.table, self.scale)),
            ("--encoder", self.encoders, known_encoders(self.table, self.scale)),
        ):
            for name in names:
                if name not in taken:
                    known = ", ".join(taken) or "none"
                    raise ValueError(f"{option} {name}: {self.table} at this scale takes those of {known}")
        rows = [row.id for row in read_table(self.table, self.scale).rows]
        for row in self.rows:
            if row not in rows:
                raise ValueError(f"--rows {row!r}: {self.table} at this scale has {one_of(row, rows) or 'no rows'}")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Those asked for, else the scale's."""
        return self.seeds or read_scale(self.scale).seeds


@dataclass(frozen=True, kw_only=True)
class ReproduceResult:
    """How it went."""

    report: Path | None  # report.md; None: there are no results
    failed: dict[str, str]  # why, by the task's folder


def plan_of(config: ReproduceConfig) -> Plan:
    """The tasks that a config stands for. Raises ValueError as ``make_plan``."""
    return make_plan(
        config.table,
        config.scale,
        rows=config.rows,
        seeds=config.all_seeds,
        weights=config.weights,
        encoders=config.encoders,
    )


def whole_plan(config: ReproduceConfig) -> Plan:
    """All rows of the config's table, with every seed that is asked for, the scale's own, or of a result in ``out``."""
    seeds = {*config.all_seeds, *read_scale(config.scale).seeds, *seeds_there(config.out)}
    return make_plan(
        config.table, config.scale, seeds=tuple(sorted(seeds)), weights=config.weights, encoders=config.encoders
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A config with what it stands for here: nothing is begun, nothing is written."""

    config: ReproduceConfig
    plan: Plan
    values: Mapping[str, str]  # of the placeholders in commands
    slots: list[Slot]


def prepare(config: ReproduceConfig) -> Prepared:
    """Check everything that options can be wrong in.

    Raises:
        ValueError: names or options that do not go together, or a device that is not there.
        DataError: real data are wanted and ``root`` is not given.
    """
    plan = plan_of(config)
    values = _values(config, plan)
    return Prepared(config=config, plan=plan, values=values, slots=find_slots(config.device, config.jobs))


def reproduce(config: ReproduceConfig) -> ReproduceResult:
    """Do what is left to do, and write the report of what is there of the table, whichever rows and seeds were asked for.

    Stopped at any moment, the same call goes on; several calls may share ``out``.

    Raises:
        ValueError: see ``prepare``.
        DataError: see ``prepare``; or a result file is damaged.
    """
    return carry_out(prepare(config))


def carry_out(prepared: Prepared) -> ReproduceResult:
    """``reproduce`` from where the options are known to be right.

    Raises DataError: real images cannot be downloaded, or a result file is damaged.
    """
    config, plan = prepared.config, prepared.plan
    out = config.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    folder = out / f"{config.table}-{config.scale}"
    if config.download:
        _fetch(open_tasks(plan.goals, out), config.root)
    scheduler = Scheduler(out, prepared.slots, prepared.values, note)
    asked = frozenset(task.id for task in plan.goals)
    try:
        outcome = scheduler.run(plan.goals)
    except (KeyboardInterrupt, Terminated):
        with contextlib.suppress(GenRepError):
            make_report(whole_plan(config), config.scale, out, folder, asked=asked)
        raise
    page = make_report(whole_plan(config), config.scale, out, folder, asked=asked)
    path = page if isinstance(page, Path) or page is None else page.markdown
    return ReproduceResult(report=path, failed=outcome.failed)


def _values(config: ReproduceConfig, plan: Plan) -> dict[str, str]:
    """Of the placeholders in commands. Raises DataError for one that has none."""
    values = {f"weights:{name}": str(path.resolve()) for name, path in config.weights.items()}
    for name, text in config.encoders.items():
        values[f"encoder:{name}"] = str(Path(text).resolve()) if Path(text).exists() else text
    if config.root is not None:
        values["root"] = str(config.root.resolve())
    if config.root is None and any(
        ROOT in word for task in open_tasks(plan.goals, config.out) for word in task.arguments
    ):
        raise DataError(f"{config.table} wants real images: give the folder that holds them as --root")
    return values


def _fetch(tasks: list[Task], root: Path | None) -> None:
    """Get the real sets that the tasks name, if they are not there; what nobody can download its tasks will miss."""
    reading = [task.given for task in tasks if task.given.get("root") == ROOT]
    named = {str(given.get("dataset") or given.get("data")) for given in reading}
    named |= {part for task in tasks for part in task.parts}
    for name in sorted(name for name in named & SETS.keys() if SETS[name].downloads):
        load_pair(name, root, download=True)
