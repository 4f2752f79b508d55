"""verify with several threads, of parts of datasets, of crowded folders; and its report."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest, shard_checks
from genrep.datasets_manifest import verify as verifying
from genrep.datasets_manifest.verify import LEVELS, require_valid, verify
from genrep.errors import DatasetError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def many(folder: Path, writer: Callable[..., None], rewrite: Callable[..., None]) -> Path:
    """Three shards that are what the manifest says, but for their latents' digest."""
    manifest = read_manifest(folder)
    for k, shard in enumerate(manifest.shards):
        path = folder / shard.name
        writer(path, manifest.fields, range(shard.first_index, shard.first_index + shard.count))
        data = path.read_bytes()
        facts = {"bytes": len(data), "sha256": __import__("hashlib").sha256(data).hexdigest()}
        rewrite(folder, lambda value: value["shards"][k].update(facts))  # noqa: B023
        (folder / shard.record_name).write_text(json.dumps({**shard.to_json(), **facts}))
    rewrite(folder, lambda value: value.update(classes=["a", "b", "c"]))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_threads_find_what_one_finds_in_the_same_order(many: Path, level: str) -> None:
    assert len(verify(many, "full")) == 3
    os.truncate(many / "shard-00001.beton", 77)
    (many / "shard-00002.json").unlink()
    (many / "x.sh").write_text("")
    one = verify(many, level)
    assert len(one) >= 3
    for jobs in (2, 3, 50):
        heard: list[tuple[int, int]] = []
        assert verify(many, level, lambda *report: heard.append(report), jobs=jobs) == one  # noqa: B023
        if level != "quick":
            total = LEVELS.index(level) * read_manifest(many).num_bytes
            assert heard[-1] == (total, total)
            assert [done for done, _ in heard] == sorted(done for done, _ in heard)


Together = Callable[[], dict[str, int]]
STEPS = {"open_shard": 0.05, "sha256_of": 0.2, "content_faults": 0.2}  # seconds that each takes at least


@pytest.fixture
def together(many: Path, monkeypatch: pytest.MonkeyPatch) -> Together:
    """``together()``: of how many shards each step was under way at a time, when three may be verified at a time."""
    lock, inside, most = threading.Lock(), dict.fromkeys(STEPS, 0), dict.fromkeys(STEPS, 0)

    def counted(step: str) -> Callable[..., Any]:
        real = getattr(shard_checks, step)

        def run(*args: Any) -> Any:
            with lock:
                inside[step] += 1
                most[step] = max(most[step], inside[step])
            threading.Event().wait(STEPS[step])
            with lock:
                inside[step] -= 1
            return real(*args)

        return run

    def measured() -> dict[str, int]:
        most.update(dict.fromkeys(STEPS, 0))
        verify(many, "full", jobs=3)
        return dict(most)

    for step in STEPS:
        monkeypatch.setattr(f"genrep.datasets_manifest.verify.{step}", counted(step))
    return measured


@pytest.mark.slow
def test_large_tables_and_images_are_looked_at_one_at_a_time_and_files_are_read_together(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert min(together().values()) > 1
    monkeypatch.setattr(shard_checks, "LARGE", 100)  # tables are of 160 bytes and more, images of 192
    found = together()
    assert (found["open_shard"], found["content_faults"]) == (1, 1)
    assert found["sha256_of"] > 1


@pytest.mark.slow
def test_small_images_of_shards_with_large_tables_are_decoded_together(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_checks.Footprint, "large_tables", lambda self, shard: True)
    found = together()
    assert found["open_shard"] == 1
    assert found["content_faults"] > 1


@pytest.mark.slow
def test_shards_whose_records_alone_are_large_are_looked_at_one_at_a_time(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_checks, "KEPT", 10)
    assert set(together().values()) == {1}


def test_the_first_problem_ends_the_reading_of_the_others(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (many / "shard-00000.beton").unlink()
    read: list[int] = []
    begun = threading.Event()
    real = os.preadv

    def endless(descriptor: int, buffers: list[Any], offset: int) -> int:
        if len(buffers[0]) != shard_checks.BLOCK:
            return real(descriptor, buffers, offset)
        read.append(offset)
        begun.set()
        return min(1, real(descriptor, buffers, offset))  # a byte at a time: as slow as a large file

    monkeypatch.setattr(os, "preadv", endless)
    with pytest.raises(DatasetError, match=r"shard-00000.beton: missing"):
        require_valid(many, "bytes", jobs=2)
    assert len(read) < read_manifest(many).shards[1].bytes // 10


def test_a_part_of_a_dataset(raw: Path, capsys: Capture) -> None:
    for suffix in ("beton", "json"):
        (raw / f"shard-00001.{suffix}").unlink()
    for level in LEVELS:
        assert verify(raw, level, partial=True) == []
        assert verify(raw, level) != []
    assert require_valid(raw, partial=True).num_pairs == 5
    assert invoke(cli.group, ["verify", str(raw), "--partial"]) == 0
    assert "3 pairs in 1 of 2 shards" in capsys.readouterr().out
    (raw / "shard-00001.json").symlink_to("elsewhere")
    assert verify(raw, partial=True) != []


def test_names_that_are_one_file_elsewhere(raw: Path) -> None:
    for name in ("README.md", "Readme.md", "MANIFEST.json", "Shard-00001.json", "contact.png"):
        (raw / name).write_text("x")
    assert sorted(str(problem) for problem in verify(raw, "quick")) == [
        "Readme.md: differs from README.md only in case: the two are one file on some systems",
        "manifest.json: differs from MANIFEST.json only in case: the two are one file on some systems",
        "shard-00001.json: differs from Shard-00001.json only in case: the two are one file on some systems",
    ]


def test_a_strangers_long_key_is_not_told_whole(raw: Path, rewrite: Callable[..., None]) -> None:
    rewrite(raw, lambda value: value["shards"][0].update({"A" * 100_000: 1, "\x1b[2J" * 1000: 2}))
    (line,) = verify(raw, "quick")
    assert "differs from the manifest in" in str(line) and len(str(line)) < 600 and str(line).isprintable()


def test_a_crowded_folder_is_not_listed_to_its_end(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "MAX_ENTRIES", 6)
    for k in range(5):
        (raw / f"note-{k}.md").write_text("")
    assert str(verify(raw, "quick")[0]) == f"{raw}: more than 6 files"


def test_the_report(raw: Path, tmp_path: Path, capsys: Capture) -> None:
    report = tmp_path / "report.json"
    assert invoke(cli.group, ["verify", str(raw), "--report", str(report), "--jobs", "2"]) == 0
    value = json.loads(report.read_text())
    assert value["ok"] is True and value["problems"] == [] and value["level"] == "bytes"
    (raw / "shard-00000.beton").unlink()
    (raw / "x.sh").write_text("")
    assert invoke(cli.group, ["verify", str(raw), "--report", str(report)]) == 1
    value = json.loads(report.read_text())
    assert value["ok"] is False
    assert value["problems"] == [
        {"shard": None, "reason": "x.sh: wanted only files that end in .beton, .json, .jsonl, .png, .md"},
        {"shard": "shard-00000.beton", "reason": "missing"},
    ]
    capsys.readouterr()
    assert invoke(cli.group, ["verify", str(raw), "--regenerate", "3"]) == 2
    assert "requires --level full" in capsys.readouterr().err


def test_the_report_makes_its_folder(raw: Path, tmp_path: Path) -> None:
    report = tmp_path / "new/folder/report.json"
    assert invoke(cli.group, ["verify", str(raw), "--report", str(report)]) == 0
    assert json.loads(report.read_text())["ok"] is True


@pytest.mark.parametrize(
    "name, wanted",
    [("here", "is a folder; wanted a file's name"), ("file/report.json", "is not a writable folder")],
)
def test_a_report_that_could_not_be_written_is_refused_at_once(
    name: str, wanted: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    for command in (["verify", "nowhere"], ["repair", "nowhere"], ["rebuild", "nowhere", "--out", "out"]):
        assert invoke(cli.group, [*command, "--report", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert "--report" in said and wanted in said and len(said.splitlines()) == 1
