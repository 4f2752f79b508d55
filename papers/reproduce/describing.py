"""What ``--dry-run`` prints: the tasks in their order, what they need, how long they may take, and what they leave."""

from __future__ import annotations

from dataclasses import replace

from genrep.evaluate.table import aligned

from ..report.rows import duration
from .hardware import Hardware, find_hardware
from .records import Estimate, Estimates, find_slots, total_of
from .reporting import hardware_text
from .run import ReproduceConfig, plan_of
from .tasks import Task, all_tasks, open_tasks
from .works import work_of

FULL = "a100"  # whose times are told at full scale, where no other hardware is stated


def describe_plan(config: ReproduceConfig) -> str:
    """The plan as text.

    Raises:
        ValueError: names or options that do not go together, or hardware that cannot be read.
    """
    plan, out = plan_of(config), config.out.resolve()
    stated = config.hardware or (FULL if config.scale == "full" else None)
    hardware = None if stated is None else find_hardware(stated)
    todo = open_tasks(plan.goals, out)
    waiting = {task.id for task in todo}
    every = all_tasks(plan.goals)
    times = _on_stated(hardware, todo) if hardware is not None else _on_this(config, todo)
    numbers = {task.id: str(i) for i, task in enumerate(every, 1)}
    lines = [["", "task", "needs", "time", "size"]]
    for task in every:
        needs = " ".join(numbers[need.id] for need in task.needs)
        open_ = task.id in waiting
        told = [_text(times.of[task.id]), size_text(work_of(task).bytes)] if open_ else ["done or not needed", ""]
        lines.append([numbers[task.id], task.folder, needs, *told])
    rows = f"{len(plan.rows)} rows, " if plan.rows else ""
    size = size_text(sum(work_of(task).bytes for task in todo))
    summary = f"{rows}{len(every)} tasks, {len(todo)} to do" + (times.total() if todo else "")
    summary += f"; about {size} on disk" if size else ""
    return "\n".join(
        [f"{plan.title} ({config.scale})", *plan.says, "", *aligned(lines), "", f"{summary}.", *times.says]
    )


class _Times:
    """Of tasks, and where they are from."""

    def __init__(self, of: dict[str, Estimate], says: list[str]) -> None:
        self.of, self.says = of, says

    def total(self) -> str:
        """What is said of all of them."""
        total = total_of(self.of.values())
        if total.unknown == len(self.of):
            return ", of unknown time"
        told = _text(replace(total, unknown=0))
        return f": {told} one after another" + (f", and {total.unknown} of unknown time" if total.unknown else "")


def _on_stated(hardware: Hardware, todo: list[Task]) -> _Times:
    """As the hardware would take."""
    works = {task.id: work_of(task) for task in todo}
    kinds = {kind for work in works.values() for kind in work.images}
    hardware.check(kinds)
    of = {name: Estimate(seconds=hardware.seconds(work), rough=True) for name, work in works.items()}
    says = [
        f"Times are those of {hardware.name} (--hardware states another).",
        *(hardware.says(kinds) if works else []),
    ]
    return _Times(of, says)


def _on_this(config: ReproduceConfig, todo: list[Task]) -> _Times:
    """As this machine took, or another one that was measured."""
    slot = find_slots(config.device, config.jobs)[0]
    estimates = Estimates(config.out.resolve(), slot)
    of = {task.id: estimates.of(task) for task in todo}
    where = f"on this machine: {hardware_text({'device': slot.name, 'cores': len(slot.cores)})}."
    rough = any(one.rough for one in of.values())
    more = " Those with about were measured on another machine, on no more cores." if rough else ""
    return _Times(of, [f"Times are those of finished tasks of the same kind, in proportion to size, {where}{more}"])


def _text(estimate: Estimate) -> str:
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
