"""``genrep-evaluate report``: exit statuses, and one line for every fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.evaluate.linear.config import LinearConfig
from genrep.evaluate.linear.run import evaluate_linear
from genrep.papers.cli import group
from genrep.papers.report.papers import published

Captured = pytest.CaptureFixture[str]


def test_a_page_from_runs(work, capsys: Captured) -> None:
    runs = [work.run(f"seed{seed}", 60.0 + seed, seed=seed) for seed in (0, 1)]
    out = work.root / "report"
    assert invoke(group, ["report", *(f"mine={run}" for run in runs), "--out", str(out), "--title", "Today"]) == 0
    assert f"report: {out / 'report.md'}, {out / 'report.html'}, 1 plot\n" in capsys.readouterr().out
    text = (out / "report.md").read_text()
    assert text.startswith("# Today\n") and "| mine | 60.50 ± 0.71 | 2 encoders |" in text


def test_what_linear_writes_is_what_published_numbers_are_compared_by(images, encoder, tmp_path: Path) -> None:
    config = LinearConfig(
        **{"dataset": str(images), "out": tmp_path, "encoder": encoder, "preset": "genrep", "device": "cpu"},
        **{"epochs": 1, "size": 16},
    )
    protocol = evaluate_linear(config).entry["protocol"]
    for number in published():
        if number.protocol.name == "linear-genrep":
            assert number.match.keys() <= protocol.keys() and "test_images" in number.match
            assert not number.comparable(number.dataset, protocol)


NOT_FINITE = '[{"dataset": "x", "protocol": {"name": "linear"}, "seed": 0, "value": NaN}]'
NO_SEED = '[{"dataset": "x", "protocol": {}, "seed": "0", "value": 1}]'
OLD = '[{"dataset": "x", "protocol": "linear", "seed": 0, "value": 1}]'


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("linear.json", b"{", "linear.json: not JSON"),
        ("linear.json", b"\xff\xfe[]", "linear.json: not JSON"),
        ("linear.json", b"[" * 100_000, "linear.json: not a file of results (its JSON is nested too deeply)"),
        ("linear.json", b'{"value": 1}', "linear.json: wanted a list of results"),
        ("linear.json", b'[{"value": 1}]', "linear.json: wanted a list of results"),
        ("knn.json", NOT_FINITE.encode(), "knn.json: entry 0: value is nan, wanted a finite number"),
        ("voc07.json", NO_SEED.encode(), "voc07.json: entry 0: seed is '0', wanted a whole number"),
        ("transfer.json", OLD.encode(), "transfer.json: entry 0: protocol is 'linear', wanted an object"),
        ("config.json", b"[]", "config.json: wanted a JSON object, found list"),
        ("config.json", b"oops", "config.json: not JSON"),
        ("config.json", b'{"data": "x"}', "config.json: data is 'x', wanted a list of folders"),
        ("metrics.jsonl", b"\x00\x01 no metrics", "metrics.jsonl: no line with a step"),
    ],
)
def test_a_broken_or_foreign_file_is_one_line(work, capsys: Captured, file: str, content: bytes, message: str) -> None:
    folder = work.run("run", 60.0)
    (folder / file).write_bytes(content)
    assert invoke(group, ["report", str(folder), "--out", str(work.root / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err and str(folder) in captured.err
    assert not (work.root / "out").exists()


def test_a_broken_manifest_of_the_data_is_one_line(work, capsys: Captured) -> None:
    data = work.gaussian(0.2)
    folder = work.run("run", 60.0, sets=(data,))
    (data / "manifest.json").write_text(
        json.dumps({"id": json.loads((folder / "config.json").read_text())["dataset_id"]})
    )
    assert invoke(group, ["report", str(folder), "--out", str(work.root / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "manifest.json: recipe is not an object" in captured.err


def test_two_values_of_one_result_are_one_line(work, capsys: Captured) -> None:
    folder = work.results("run", work.entry(60.0))
    work.results("run", work.entry(61.0), file="transfer.json")
    assert invoke(group, ["report", str(folder), "--out", str(work.root / "out")]) == 1
    assert "transfer.json: entry 0: another value than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere", "--out", "out"], 1, "nowhere: no such folder or result file"),
        ([".", "--out", "out"], 1, ".: no results; genrep-evaluate linear --out DIR writes some"),
        (["--out", "out"], 2, "DIR"),
        (["."], 2, "--out"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], status: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(group, ["report", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err
    assert not (tmp_path / "out").exists()
