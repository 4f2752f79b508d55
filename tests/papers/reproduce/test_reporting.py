"""The report's page: every row and seed that has results, what is missing of them, and their times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.evaluate.transfer import SUITES
from genrep.files import write_json
from genrep.papers.commands import reproduce_command as command
from genrep.papers.reproduce.planning import make_plan
from genrep.papers.reproduce.reporting import make_report
from genrep.papers.tasks.scheduling import record_path
from genrep.papers.tasks.task import Task

Captured = pytest.CaptureFixture[str]
Measure = Callable[..., None]


def entry(task: Task, seed: int, dataset: str = "fashion_mnist") -> dict[str, Any]:
    """What an evaluation writes."""
    protocol = {"name": task.final.removesuffix(".json"), "metric": "top-1"}
    return {"dataset": dataset, "protocol": protocol, "seed": seed, "value": 80.0 + seed, "encoder_sha256": task.digest}


def write_record(task: Task, out: Path, seconds: float, *, finished: bool = True) -> None:
    """What a scheduler leaves of a task."""
    record_path(out, task).parent.mkdir(parents=True, exist_ok=True)
    record = {"task": task.folder, "command": [], "seconds": seconds, "pieces": [seconds], "finished": finished}
    write_json(record_path(out, task), {**record, "device": "CPU", "cores": 1, "like": task.like, "units": task.units})


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Write the results of genrep-table1's rows at scale tiny."""

    def write(row: str, *seeds: int) -> None:
        (planned,) = make_plan("genrep-table1", "tiny", rows=(row,), seeds=seeds).rows
        for task in planned.results:
            (tmp_path / task.folder).mkdir(parents=True)
            write_json(tmp_path / task.folder / task.final, [entry(task, task.seed or 0)])

    return write


def page(out: Path, table: str = "genrep-table1-tiny") -> str:
    return (out / table / "report.md").read_text()


def reproduce(out: Path, *arguments: str) -> int:
    return invoke(command, ["genrep-table1", "--scale", "tiny", "--out", str(out), "--device", "cpu", *arguments])


def test_rows_and_seeds_that_were_not_asked_for_stay_on_the_page(tmp_path: Path, measure: Measure) -> None:
    measure("gauss", 0, 5)
    measure("random", 0)
    assert reproduce(tmp_path, "--rows", "random") == 0
    shown = page(tmp_path)
    assert "| Gaussian |" in shown and "| random initialisation |" in shown
    assert "82.50 ± 3.54" in shown  # over both seeds
    missing = next(line for line in shown.splitlines() if line.startswith("No results yet: "))
    assert "; steered;" in missing and not any(f" {name};" in missing for name in ("Gaussian", "random initialisation"))
    assert "Not all results yet" not in shown


def test_seeds_are_told_by_row_where_rows_differ(tmp_path: Path, measure: Measure) -> None:
    measure("gauss", 0, 5)
    measure("random", 0)
    assert reproduce(tmp_path, "--rows", "random") == 0
    assert (
        "Seeds of training and evaluation: 0, 5 (Gaussian) and 0 (random initialisation). The encoders of a row share"
        in page(tmp_path)
    )
    measure("random", 5)
    assert reproduce(tmp_path, "--rows", "random") == 0
    assert "Seeds of training and evaluation: 0, 5. The encoders" in page(tmp_path)


def test_what_a_row_lacks_is_told(tmp_path: Path, measure: Measure) -> None:
    measure("gauss", 0)
    plan = make_plan("genrep-table1", "tiny", seeds=(0, 1))
    (gauss,) = [row for row in plan.rows if row.spec.id == "gauss"]
    knn = next(task for task in gauss.results if task.label.startswith("knn") and task.seed == 0)
    (tmp_path / knn.folder / knn.final).unlink()
    folder = tmp_path / "page"
    make_report(plan, "tiny", tmp_path, folder, asked=frozenset(task.id for task in plan.goals))
    assert "Not all results yet: Gaussian (seed 1, knn)." in (folder / "report.md").read_text()


def test_times_are_those_of_what_was_finished_for_a_result(tmp_path: Path, measure: Measure) -> None:
    measure("gauss", 0)
    plan = make_plan("genrep-table1", "tiny", seeds=(0, 1))
    (row,) = [row for row in plan.rows if row.spec.id == "gauss"]
    data, (first, second) = row.runs[0].needs[0], row.runs
    for task, seconds, finished in ((data, 7.0, True), (first, 40.0, True), (second, 20.0, False)):
        write_record(task, tmp_path, seconds, finished=finished)
    make_report(plan, "tiny", tmp_path, tmp_path / "page")
    lines = (tmp_path / "page/report.md").read_text().splitlines()
    told = next(line for line in lines if line.startswith("Time by stage"))
    assert told.endswith(" Gaussian: data 7 s, training 40 s.")  # and no row that shares them and has no results


def test_a_damaged_record_counts_as_none(tmp_path: Path, measure: Measure, capsys: Captured) -> None:
    measure("gauss", 0)
    (row,) = make_plan("genrep-table1", "tiny", rows=("gauss",)).rows
    for name, content in (
        *(("lacks", {"device": "CPU", "finished": True, "units": 1.0}), ("pieces", {"pieces": ["x"]})),
        ("types", {"cores": "1"}),
    ):
        task = row.results[0]
        write_record(task, tmp_path, 1.0)
        path = record_path(tmp_path, task)
        whole = json.loads(path.read_bytes())
        path.write_text(json.dumps(content if name == "lacks" else {**whole, **content}))
        assert reproduce(tmp_path, "--rows", "gauss") == 0, name
        assert "Hardware" not in page(tmp_path), name
        assert reproduce(tmp_path, "--rows", "gauss", "--dry-run") == 0, capsys.readouterr().err


def test_a_list_of_no_results_is_measured_again(tmp_path: Path, measure: Measure) -> None:
    measure("random", 0)
    (row,) = make_plan("genrep-table1", "tiny", rows=("random",)).rows
    task = row.results[0]
    assert task.done(tmp_path)
    (tmp_path / task.folder / task.final).write_text("[]\n")
    assert not task.done(tmp_path)


def test_a_transfer_is_done_when_it_has_every_dataset(tmp_path: Path) -> None:
    plan = make_plan("hl-table3", "full")
    row = next(row for row in plan.rows if row.spec.data == "generated")
    task = next(task for task in row.results if task.verb.name == "transfer")
    names = SUITES["hl"].datasets
    (tmp_path / task.folder).mkdir(parents=True)
    path = tmp_path / task.folder / task.final
    write_json(path, [entry(task, 0, name) for name in names if name not in ("birdsnap", "dtd")])
    write_record(task, tmp_path, 1.0)
    assert not task.done(tmp_path)
    make_report(plan, "full", tmp_path, tmp_path / "page")
    shown = (tmp_path / "page/report.md").read_text()
    assert f"Not all results yet: {row.spec.name} (birdsnap, dtd)." in shown and "cifar100" in shown
    write_json(path, [entry(task, 0, name) for name in names])
    assert task.done(tmp_path)


def test_the_page_of_a_timing_is_what_its_last_attempt_printed(
    tmp_path: Path, capsys: Captured, stub_figure3: Callable[[str], None]
) -> None:
    out = tmp_path / "out"
    arguments = ["hl-fig3", "--scale", "tiny", "--out", str(out), "--device", "cpu"]
    stub_figure3("import sys; print('half a table'); sys.exit('Error: no energy')")
    assert invoke(command, arguments) == 1
    assert "ended with status 1: no energy" in capsys.readouterr().err
    assert not (out / "hl-fig3-tiny").exists()
    stub_figure3("import sys; print('  png <1>\\n  shards 2'); print('a warning', file=sys.stderr)")
    assert invoke(command, arguments) == 0
    shown = page(out, "hl-fig3-tiny")
    assert shown.endswith("\n\n```\n  png <1>\n  shards 2\n```\n") and "half" not in shown and "warning" not in shown
    assert "  png &lt;1&gt;\n  shards 2</pre>" in (out / "hl-fig3-tiny/report.html").read_text()
    (log,) = out.glob("tasks/*/log.txt")
    assert "no energy" in log.read_text() and "a warning" in log.read_text()
