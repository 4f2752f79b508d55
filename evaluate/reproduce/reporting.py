"""The page in the end: ours beside the published, with what everything took."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from genrep.errors import DataError
from genrep.files import locked_folder, write_atomic, write_json

from ..report import ReportConfig, ReportResult, Row, write_report
from ..report.facts import read_object
from ..report.rows import duration
from .planning import Plan, PlannedRow
from .records import read_record, record_path
from .sources import SUBSET
from .tasks import LOG_FILE, TASKS, Task, all_tasks

DELTA_RESULTS = "delta-results.json"


def make_report(plan: Plan, scale: str, out: Path, folder: Path) -> ReportResult | Path | None:
    """Write the report of what is there; None if nothing is.

    Raises:
        DataError: a result file is damaged.
    """
    if plan.script is not None:
        return _script_page(plan, plan.script, out, folder)
    rows = [row for planned in plan.rows if (row := _report_row(planned, out)) is not None]
    if not rows:
        return None
    config = ReportConfig(rows=tuple(rows), out=folder, title=f"{plan.title} ({scale})", text=_texts(plan, out))
    with contextlib.chdir(out):  # where the paths in the runs' settings begin
        return write_report(config)


def _report_row(planned: PlannedRow, out: Path) -> Row | None:
    """None: there is no result yet."""
    done = [task for task in planned.results if task.done(out)]
    if not done:
        return None
    measured = {need.id for task in done for need in task.needs}
    return Row(
        name=planned.spec.name,
        runs=tuple(out / run.folder for run in planned.runs if run.id in measured and run.done(out)),
        results=tuple(_results(task, planned, out) for task in done),
        published=planned.spec.published or (),
    )


def _results(task: Task, planned: PlannedRow, out: Path) -> Path:
    folder = out / task.folder
    if planned.spec.walk is None:
        return folder
    path = folder / task.final
    content = read_object(path)
    try:
        entries = delta_entries(content, _generator(task))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: wanted what measure-delta writes ({type(error).__name__}: {error})") from error
    write_json(folder / DELTA_RESULTS, entries)
    return folder / DELTA_RESULTS


def _generator(task: Task) -> str:
    """Whose latents a walk moves."""
    (fit,) = task.needs
    return fit.arguments[fit.arguments.index("--gen") + 1]


def delta_entries(content: dict[str, Any], generator: str) -> list[dict[str, Any]]:
    """What ``genrep-generate measure-delta`` wrote of latents of ``generator``, as results that a report takes."""
    entries = []
    for row in content["rows"]:
        quantities = [
            ("loss of the estimator", row["loss_f"], "nats"),
            ("samples", row["samples"], "anchors"),
            ("mean distance", row["delta"]["mean"], "distance in z"),
            ("std of distance", row["delta"]["std"], "distance in z"),
        ]
        if len(row["delta_per_chunk"]) > 1:
            quantities += [
                (f"mean distance in chunk {part['chunk']}", part["mean"], "distance in z")
                for part in row["delta_per_chunk"]
            ]
        entries += [
            {
                "dataset": f"latents of {generator}",
                "protocol": {"name": "delta", "metric": metric, "anchors": content["anchors"]},
                "seed": content["seed"],
                "metric": metric,
                "unit": unit,
                "value": value,
                "encoder_sha256": row["weights_sha256"],
                "device": content["device"],
                "seconds": content["seconds"],
            }
            for metric, value, unit in quantities
            if value is not None
        ]
    return entries


def _texts(plan: Plan, out: Path) -> tuple[str, ...]:
    """What was done, on what, in what time."""
    texts = list(plan.says)
    seeds = sorted({seed for row in plan.rows for seed in row.seeds if row.runs})
    if seeds:
        said = f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} of training and evaluation"
        texts.append(f"{said}; the encoders of a row share their data.")
    texts += [_subset_text(task) for task in all_tasks(plan.goals) if task.module == SUBSET]
    records = {task.id: read_record(record_path(out, task)) for task in all_tasks(plan.goals)}
    hardware = dict.fromkeys(hardware_text(one) for one in records.values() if "device" in one)
    if hardware:
        texts.append(f"Hardware: {'; '.join(hardware)}.")
    times = [f"{row.spec.name}: {time}" for row in plan.rows if (time := _time_of(row, records))]
    if times:
        texts.append("Time by stage, shared ones told in every row: " + "; ".join(times) + ".")
    missing = [row.spec.name for row in plan.rows if not any(task.done(out) for task in row.results)]
    partly = [
        row.spec.name for row in plan.rows if row.spec.name not in missing and not all(t.done(out) for t in row.results)
    ]
    if missing:
        texts.append(f"No results yet: {', '.join(missing)}.")
    if partly:
        texts.append(f"Not all results yet: {', '.join(partly)}.")
    return tuple(texts)


def _subset_text(task: Task) -> str:
    """What is in a folder of real images."""
    asked = dict(zip(task.arguments[::2], task.arguments[1::2]))
    counts = f"{int(asked['--train']):,} training and {int(asked['--test']):,} test images"
    return f"{Path(task.folder).name}: {counts} of {asked['--dataset']}, the first of each class."


def hardware_text(record: dict[str, Any]) -> str:
    """What a task ran on.

    >>> hardware_text({"device": "NVIDIA A100", "cores": 1})
    'NVIDIA A100, 1 core'
    """
    return f"{record['device']}, {record['cores']} core{'s' if record['cores'] > 1 else ''}"


def _time_of(row: PlannedRow, records: dict[str, dict[str, Any]]) -> str:
    said = []
    words = {"fit": "learning views", "dataset": "data", "run": "training", "evaluation": "evaluation"}
    tasks = all_tasks(row.goals)
    for kind, word in words.items():
        seconds = [records[task.id]["seconds"] for task in tasks if task.kind == kind and "seconds" in records[task.id]]
        if seconds:
            many = f" ({len(seconds)})" if len(seconds) > 1 else ""
            said.append(f"{word}{many} {duration(sum(seconds))}")
    return ", ".join(said)


def _script_page(plan: Plan, task: Task, out: Path, folder: Path) -> Path | None:
    """A script's own table as a page; None: it has not ended."""
    if not task.done(out):
        return None
    record = read_record(record_path(out, task))
    lines = (out / TASKS / task.id / LOG_FILE).read_text().strip()
    said = "\n\n".join((*plan.says, f"Hardware: {hardware_text(record)}."))
    page = f"# {plan.title}\n\n{said}\n\n```\n{lines}\n```\n"
    with locked_folder(folder):
        write_atomic(folder / "report.md", page.encode())
    return folder / "report.md"
