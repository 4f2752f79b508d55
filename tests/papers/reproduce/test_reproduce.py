"""The command: a whole tiny chain through a kill, and what a user sees when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.files import write_json
from genrep.papers.commands import reproduce_command as command
from genrep.papers.reproduce import planning, run
from genrep.papers.reproduce.specs import read_scale

Captured = pytest.CaptureFixture[str]
START = "from genrep.papers.commands import reproduce_command as command; from genrep.cli import run; run(command)"


@pytest.mark.slow
def test_a_chain_through_a_stop_to_a_report(root: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "results"
    arguments = ["genrep-table1", "--scale", "tiny", "--rows", "gauss", "--root", str(root), "--out", str(out)]
    arguments += ["--device", "cpu", "--jobs", str(len(os.sched_getaffinity(0)))]
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments], stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("runs/") and ": started" in line:
            process.send_signal(signal.SIGTERM)
    process.stderr.close()
    assert process.wait() == 143
    datasets = list((out / "datasets").iterdir())
    built = (datasets[0] / "manifest.json").stat().st_mtime_ns
    assert len(datasets) == 1 and not list((out / "runs").glob("*/encoder.safetensors"))

    assert invoke(command, arguments) == 0, capsys.readouterr().err
    assert capsys.readouterr().out == f"report: {out / 'genrep-table1-tiny/report.md'}\n"
    assert (datasets[0] / "manifest.json").stat().st_mtime_ns == built
    assert len(list((out / "runs").glob("*/encoder.safetensors"))) == 1
    assert sorted(path.name for path in (out / "evaluations").glob("*/*.json")) == ["knn.json", "linear.json"]
    page = (out / "genrep-table1-tiny/report.md").read_text()
    for part in ("| Gaussian |", "GenRep, Table 1", "42.58", "2 epochs, 20 steps"):
        assert part in page
    for part in (
        "gaussian:std=0.2,truncation=2, 256 pairs",
        "stylegan2_fashion for bigbigan",
        ": 200 training and 100 test images of fashion_mnist, the first of each class.",
        "Hardware: ",
        "training",
    ):
        assert part in page
    assert (out / "genrep-table1-tiny/report.html").is_file()

    records = [json.loads(path.read_text()) for path in (out / "tasks").glob("*/task.json")]
    assert len(records) == 5 and all(record["finished"] and record["seconds"] > 0 for record in records)
    assert invoke(command, [*arguments, "--dry-run"]) == 0
    assert "5 tasks, 0 to do.\n" in capsys.readouterr().out
    # What is known of one seed tells of the next.
    assert invoke(command, [*arguments, "--seeds", "5", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 to do" in shown and "unknown" not in shown
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.json")}
    assert invoke(command, arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.json")} == before
    assert (out / "genrep-table1-tiny/report.md").read_text() == page


@pytest.mark.slow
def test_a_failure_is_said_and_the_rest_is_reported(
    root: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = read_scale("tiny")
    monkeypatch.setattr(
        planning, "read_scale", lambda name: replace(tiny, evaluations={"knn": tiny.evaluations["knn"]})
    )
    out = tmp_path / "results"
    arguments = ["genrep-table1", "--scale", "tiny", "--rows", "random,real", "--root", str(root), "--out", str(out)]
    # A folder of another recipe is in the way of the row's data.
    plan = run.plan_of(run.ReproduceConfig(table="genrep-table1", out=out, scale="tiny", rows=("real",)))
    data = plan.rows[0].runs[0].needs[0]
    (out / data.folder).mkdir(parents=True)
    (out / data.folder / "recipe.json").write_text("{}")
    assert invoke(command, [*arguments, "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 3 and errors[0].startswith(f"Error: {data.folder}: ended with status 1: ")
    assert f"not started: {data.folder} failed" in errors[1]
    assert "report: " in captured.out
    page = (out / "genrep-table1-tiny/report.md").read_text()
    assert "| random initialisation |" in page and "No results yet: real images, SimCLR; no latent views; " in page


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["genrep-table9"], 2, "genrep-table9"),
        (["genrep-table1", "--scale", "huge"], 2, "--scale"),
        (
            ["genrep-table1", "--rows", "gaus"],
            2,
            "--rows 'gaus': genrep-table1 at this scale has real, none, gauss-only",
        ),
        (["genrep-table1", "--seeds", "1,1"], 2, "--seed 1,1: wanted one or more different numbers"),
        (["genrep-table1", "--seeds", "one"], 2, "wanted numbers like 0 or 0,1,2"),
        (["genrep-table1", "--weights", "bigbigan"], 2, "wanted GENERATOR=FILE"),
        (
            ["genrep-table1", "--weights", f"stylegan2_cifar={__file__}"],
            2,
            "--weights stylegan2_cifar: genrep-table1 at this scale takes those of stylegan2_cifar10, stylegan2_fashion",
        ),
        (
            ["genrep-table1", "--scale", "full", "--weights", f"biggan={__file__}"],
            2,
            "--weights biggan: genrep-table1 at this scale takes those of bigbigan",
        ),
        (["hl-fig3", "--weights", f"bigbigan={__file__}"], 2, "takes those of none"),
        (
            ["genrep-table1", "--encoder", "bigbigan=a:b"],
            2,
            "--encoder bigbigan: genrep-table1 at this scale takes",
        ),
        (["genrep-table4", "--encoder", "bigbigan=nowhere.pth"], 2, "wanted NAME=FILE of a file that is there"),
        (["genrep-table1", "--seeds", f"0,{2**63}", "--dry-run"], 2, "wanted 0 to 2^63 - 1"),
        (["genrep-table1", "--jobs", "0"], 2, "--jobs"),
        (
            ["genrep-table1", "--scale", "tiny", "--device", "cpu"],
            1,
            "genrep-table1 requires real images; give the folder",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    arguments: list[str], status: int, message: str, tmp_path: Path, capsys: Captured
) -> None:
    assert invoke(command, [*arguments, "--out", str(tmp_path / "out")]) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_file_in_the_place_of_the_folder_is_named_before_anything_runs(
    place: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").touch()
    for more in ([], ["--dry-run"]):
        assert invoke(command, ["hl-table1", "--device", "cpu", "--out", str(tmp_path / place), *more]) == 2
        assert f"--out {tmp_path / place}: {tmp_path / 'file'} is not a folder" in capsys.readouterr().err


def test_a_table_without_real_images_needs_no_root(tmp_path: Path, capsys: Captured) -> None:
    out = ["--out", str(tmp_path), "--device", "cpu"]
    assert invoke(command, ["hl-table1", "--scale", "full", *out, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "16 tasks, 16 to do: about " in shown and "unknown" not in shown and " 0 s" not in shown
    assert "Times are those of one NVIDIA A100" in shown
    assert "fits/navigator-bigbigan-chunks-5-" in shown


def test_before_anything_ran_a_plan_has_rough_times(tmp_path: Path, capsys: Captured) -> None:
    out = ["--out", str(tmp_path), "--device", "cpu", "--jobs", str(len(os.sched_getaffinity(0))), "--dry-run"]
    assert invoke(command, ["genrep-fig9", "--scale", "cpu", *out]) == 0
    shown = capsys.readouterr().out
    (run_,) = [line for line in shown.splitlines() if " runs/simclr-real-fashion_mnist-anchor-s0-" in line]
    assert run_.endswith("  about 5 min  134.4 MB") and " to do: about " in shown and " of unknown time;" in shown
    assert "Times told as 'about' were measured on another machine" in shown


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not JSON"), ("[]", "wanted a JSON object"), ("{}", "wanted what measure-delta writes")],
)
def test_a_damaged_result_is_named(content: str, message: str, tmp_path: Path, capsys: Captured) -> None:
    plan = run.plan_of(run.ReproduceConfig(table="hl-table1", out=tmp_path, scale="tiny", rows=("all",)))
    (task,) = plan.rows[0].results
    path = tmp_path / task.folder / "delta.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    arguments = ["hl-table1", "--scale", "tiny", "--rows", "all", "--out", str(tmp_path), "--device", "cpu"]
    assert invoke(command, arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path}: {message}" in error


def test_the_timing_is_a_module_of_the_package_with_its_scales_settings(
    tmp_path: Path, stub_figure3: Callable[[str], None]
) -> None:
    arguments = ["hl-fig3", "--scale", "tiny", "--out", str(tmp_path / "out"), "--device", "cpu"]
    stub_figure3("import sys; print('loading', *sys.argv[1:])")
    assert invoke(command, arguments) == 0
    page = (tmp_path / "out/hl-fig3-tiny/report.md").read_text()
    assert "--gen stylegan2_fashion --batch-size 32 --seconds 0.5 --rounds 1 --workers 1 --out timings/figure3-" in page
    assert "/timing.json --device cpu" in page


def test_a_set_whose_shards_are_gone_is_not_done(tmp_path: Path) -> None:
    plan = run.plan_of(run.ReproduceConfig(table="genrep-table1", out=tmp_path, scale="tiny", rows=("gauss",)))
    data = plan.rows[0].runs[0].needs[0]
    folder = tmp_path / data.folder
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"shards": [{"name": "shard-00000.beton"}]})
    assert not data.done(tmp_path)
    (folder / "shard-00000.beton").touch()
    assert data.done(tmp_path)
