"""The page in the end: ours beside the published, with what everything took."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from genrep.errors import DataError
from genrep.files import locked_folder, write_atomic, write_json

from ..figure3.page import timing_blocks
from ..report import ReportConfig, ReportResult, Row, write_report
from ..report.page import Block, Code, Paragraph, to_html, to_markdown
from ..report.rows import duration, read_object
from ..report.write import HTML_FILE, MARKDOWN_FILE
from ..tasks.scheduling import record_path
from ..tasks.task import DIGEST, FOLDERS, Task, all_tasks, read_record
from .planning import PlannedRow, TablePlan

DELTA_RESULTS = "delta-results.json"
SEED = re.compile(rf"-s(\d+){DIGEST}")  # in the name of an evaluation's folder


class There(NamedTuple):
    """A row with its results so far."""

    row: PlannedRow
    done: list[Task]  # of its results
    open: list[str]  # what is not: seeds, evaluations, datasets

    @property
    def seeds(self) -> list[int]:
        """The seeds of its results."""
        return sorted({task.seed for task in self.done if task.seed is not None})


def seeds_there(out: Path) -> set[int]:
    """The seeds of which ``out`` holds evaluations, for any table."""
    found = (SEED.search(path.name) for path in (out / FOLDERS["evaluation"]).glob("*"))
    return {int(match[1]) for match in found if match}


def make_report(
    plan: TablePlan, scale: str, out: Path, folder: Path, *, asked: frozenset[str] = frozenset()
) -> ReportResult | Path | None:
    """Write the report of a plan's results so far. Returns None if there are none.

    ``asked``: ids of the results that the report names as missing if they are.

    Raises:
        DataError: a result file is damaged.
    """
    if plan.task is not None:
        return _timing_page(plan, plan.task, out, folder)
    there = [_there(planned, out, asked) for planned in plan.rows]
    rows = [_report_row(one, out) for one in there if one.done]
    if not rows:
        return None
    text = _texts(plan.says, there, out)
    config = ReportConfig(rows=tuple(rows), out=folder, title=f"{plan.title} ({scale})", text=text)
    with contextlib.chdir(out):  # where the paths in the runs' settings begin
        return write_report(config)


def _there(planned: PlannedRow, out: Path, asked: frozenset[str]) -> There:
    done = [task for task in planned.results if task.finished(out)]
    seeds = {task.seed for task in done}
    left = [task for task in planned.results if (task.id in asked or task.seed in seeds) and not task.done(out)]
    names = [f"seed {task.seed}" for task in left if done and task.seed not in seeds]
    for task in left:
        if task.seed in seeds:
            names += task.missing_parts(out) if task.finished(out) else [task.label.partition("-")[0]]
    return There(planned, done, list(dict.fromkeys(names)))


def _report_row(there: There, out: Path) -> Row:
    planned, done = there.row, there.done
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
        entries = delta_entries(content, task.needs[0].config.gen)  # whose latents the walk moves
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: wanted what measure-delta writes ({type(error).__name__}: {error})") from error
    write_json(folder / DELTA_RESULTS, entries)
    return folder / DELTA_RESULTS


def delta_entries(content: dict[str, Any], generator: str) -> list[dict[str, Any]]:
    """The output of ``genrep-generate measure-delta`` for latents of ``generator``, as results for a report."""
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
                (f"{word} distance in chunk {part['chunk']}", part[key], "distance in z")
                for part in row["delta_per_chunk"]
                for word, key in (("mean", "mean"), ("std of", "std"))
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


def _texts(says: tuple[str, ...], rows: list[There], out: Path) -> tuple[str, ...]:
    """Sentences about what was done, on which hardware, and in what time."""
    texts = [*says, *_seed_texts(rows)]
    tasks = all_tasks(task for one in rows for task in one.done)
    texts += [_subset_text(task) for task in tasks if task.kind == "subset"]
    records = {task.id: record for task in tasks if (record := read_record(record_path(out, task)))}
    hardware = dict.fromkeys(hardware_text(one) for one in records.values())
    if hardware:
        texts.append(f"Hardware: {'; '.join(hardware)}.")
    times = [f"{one.row.spec.name}: {time}" for one in rows if (time := _time_of(one.done, records))]
    if times:
        texts.append("Time by stage, shared ones told in every row: " + "; ".join(times) + ".")
    missing = [one.row.spec.name for one in rows if not one.done]
    partly = [f"{one.row.spec.name} ({', '.join(one.open)})" for one in rows if one.done and one.open]
    if missing:
        texts.append(f"No results yet: {'; '.join(missing)}.")
    if partly:
        texts.append(f"Not all results yet: {'; '.join(partly)}.")
    return tuple(texts)


def _seed_texts(rows: list[There]) -> list[str]:
    """The seeds of results that are there, by row where they differ."""
    names: dict[str, list[str]] = {}
    for one in rows:
        if one.seeds:
            names.setdefault(", ".join(map(str, one.seeds)), []).append(one.row.spec.name)
    if not names:
        return []
    many = "Seed" if all(seeds.isdecimal() for seeds in names) else "Seeds"
    told = (seeds if len(names) == 1 else f"{seeds} ({'; '.join(rows)})" for seeds, rows in names.items())
    return [f"{many} of training and evaluation: {' and '.join(told)}. The encoders of a row share their data."]


def _subset_text(task: Task) -> str:
    """A sentence about the contents of a folder of real images."""
    asked = task.config
    counts = f"{asked.train:,} training and {asked.test:,} test images"
    return f"{task.id}: {counts} of {asked.dataset}, the first of each class."


def hardware_text(record: dict[str, Any]) -> str:
    """The hardware that a task ran on.

    >>> hardware_text({"device": "NVIDIA A100", "cores": 1})
    'NVIDIA A100, 1 core'
    """
    return f"{record['device']}, {record['cores']} core{'s' if record['cores'] > 1 else ''}"


def _time_of(results: list[Task], records: dict[str, dict[str, Any]]) -> str:
    """The times of the finished tasks of these rows, by stage."""
    said = []
    words = {"fit": "learning views", "dataset": "data", "run": "training", "evaluation": "evaluation"}
    finished = [task for task in all_tasks(results) if records.get(task.id, {}).get("finished")]
    for kind, word in words.items():
        seconds = [records[task.id]["seconds"] for task in finished if task.kind == kind]
        if seconds:
            many = f" ({len(seconds)})" if len(seconds) > 1 else ""
            said.append(f"{word}{many} {duration(sum(seconds))}")
    return ", ".join(said)


def _timing_page(plan: TablePlan, task: Task, out: Path, folder: Path) -> Path | None:
    """A page of a timing's output with plots of its numbers; None if it has not ended."""
    if not task.done(out):
        return None
    hardware = hardware_text(read_record(record_path(out, task)))
    blocks: list[Block] = [*map(Paragraph, plan.says), Paragraph(f"Hardware: {hardware}.")]
    timing, pictures = timing_blocks(out / task.out)
    blocks += [*timing, Code((out / task.folder / task.final).read_text(errors="replace"))]
    with locked_folder(folder):
        for picture in pictures:
            write_atomic(folder / picture.name, picture.plot.light)
        write_atomic(folder / MARKDOWN_FILE, to_markdown(plan.title, blocks).encode())
        write_atomic(folder / HTML_FILE, to_html(plan.title, blocks).encode())
    return folder / MARKDOWN_FILE
