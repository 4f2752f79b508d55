"""A reproduction from settings to a report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import DataError, GenRepError, Terminated
from genrep.images.sets import SETS, load_pair
from genrep.progress import note

from ..tasks.scheduling import Scheduler, Slot, find_slots
from ..tasks.task import Task, open_tasks
from .config import ReproduceConfig
from .inputs import ROOT
from .planning import TablePlan, make_plan
from .reporting import make_report, seeds_there
from .specs import read_scale


@dataclass(frozen=True, kw_only=True)
class ReproduceResult:
    """How it went."""

    report: Path | None  # report.md; None: there are no results
    failed: dict[str, str]  # why, by the task's folder


def plan_of(config: ReproduceConfig) -> TablePlan:
    """The tasks that a config stands for. Raises ValueError as ``make_plan``."""
    return make_plan(
        config.table,
        config.scale,
        rows=config.rows,
        seeds=config.all_seeds,
        weights=config.weights_files,
        encoders=config.named_encoders,
    )


def whole_plan(config: ReproduceConfig) -> TablePlan:
    """All rows of the config's table, with every seed that is asked for, the scale's own, or of a result in ``out``."""
    seeds = {*config.all_seeds, *read_scale(config.scale).seeds, *seeds_there(config.out)}
    return make_plan(
        config.table,
        config.scale,
        seeds=tuple(sorted(seeds)),
        weights=config.weights_files,
        encoders=config.named_encoders,
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A config with its plan on this machine. Nothing has been started or written."""

    config: ReproduceConfig
    plan: TablePlan
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
    """Run the remaining tasks, and write the report of all of the table's results, whichever rows and seeds were requested.

    The same call resumes after a stop at any moment. Several calls may share ``out``.

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


def _values(config: ReproduceConfig, plan: TablePlan) -> dict[str, str]:
    """Values of the placeholders in commands. Raises DataError for a placeholder without a value."""
    values = {f"weights:{name}": str(path.resolve()) for name, path in config.weights_files.items()}
    for name, text in config.named_encoders.items():
        values[f"encoder:{name}"] = str(Path(text).resolve()) if Path(text).exists() else text
    if config.root is not None:
        values["root"] = str(config.root.resolve())
    if config.root is None and any(
        ROOT in word for task in open_tasks(plan.goals, config.out) for word in task.arguments
    ):
        raise DataError.naming("{} requires real images; give the folder that holds them as {root}", config.table)
    return values


def _fetch(tasks: list[Task], root: Path | None) -> None:
    """Get the real sets that the tasks name, if they are not there; what nobody can download its tasks will miss."""
    reading = [task.given for task in tasks if task.given.get("root") == ROOT]
    named = {str(given.get("dataset") or given.get("data")) for given in reading}
    named |= {part for task in tasks for part in task.parts}
    for name in sorted(name for name in named & SETS.keys() if SETS[name].downloads):
        load_pair(name, root, download=True)
