"""verify and require_valid: a good folder has no problems, and every damage is named with its shard."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verifying import lines, overwrite

from genrep.datasets_manifest import layout
from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.verify import LEVELS, Problem, require_valid, verify
from genrep.errors import DatasetError, ManifestError

PAGE = 2 << 20
Reseal = Callable[..., None]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["raw", "jpeg", "real"])
def test_good_folders(originals: dict[str, Path], kind: str, level: str) -> None:
    assert verify(originals[kind], level) == []
    assert require_valid(originals[kind], level) == read_manifest(originals[kind])


def test_progress_counts_bytes_to_the_total(jpeg: Path, raw: Path) -> None:
    for folder, level, passes in ((raw, "bytes", 1), (raw, "full", 2), (jpeg, "full", 2)):
        heard: list[tuple[int, int]] = []
        verify(folder, level, lambda *report: heard.append(report))  # noqa: B023
        total = passes * read_manifest(folder).num_bytes
        assert heard[-1] == (total, total)
        assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    heard = []
    verify(raw, "quick", lambda *report: heard.append(report))
    assert heard == []


def test_progress_is_whole_with_a_broken_shard(raw: Path) -> None:
    (raw / "shard-00000.beton").unlink()
    heard: list[tuple[int, int]] = []
    verify(raw, "full", lambda *report: heard.append(report))
    assert heard[-1][0] == heard[-1][1] == 2 * read_manifest(raw).num_bytes


def test_unknown_levels(raw: Path) -> None:
    for call in (verify, require_valid):
        with pytest.raises(ValueError, match="level 'deep', wanted one of quick, bytes, full"):
            call(raw, "deep")


# --- shards


def test_a_flipped_byte_is_seen_by_its_sha256(raw: Path) -> None:
    overwrite(raw / "shard-00001.beton", PAGE + 100, b"\xaa")
    assert lines(raw, "quick") == []
    (line,) = lines(raw)
    assert line.startswith("shard-00001.beton: sha256 is ")


def test_a_truncated_shard(raw: Path) -> None:
    os.truncate(raw / "shard-00001.beton", 2 * PAGE - 7)
    (line,) = lines(raw, "quick")
    assert line.startswith("shard-00001.beton: truncated: 4194297 bytes")
    assert lines(raw, "full") == [line]


def test_a_missing_shard(raw: Path) -> None:
    (raw / "shard-00000.beton").unlink()
    assert lines(raw, "quick") == ["shard-00000.beton: missing"]


def test_a_link_in_a_shards_place(raw: Path, originals: dict[str, Path]) -> None:
    (raw / "shard-00000.beton").unlink()
    (raw / "shard-00000.beton").symlink_to(originals["raw"] / "shard-00000.beton")
    assert lines(raw, "quick") == ["shard-00000.beton: a symbolic link, wanted a regular file"]


def test_shards_that_changed_places(raw: Path) -> None:
    (raw / "shard-00000.beton").rename(raw / "x")
    (raw / "shard-00001.beton").rename(raw / "shard-00000.beton")
    (raw / "x").rename(raw / "shard-00001.beton")
    assert lines(raw, "quick") == [
        "shard-00000.beton: 2 samples, the manifest says 3",
        "shard-00001.beton: 3 samples, the manifest says 2",
    ]


def test_a_size_other_than_stated(raw: Path, rewrite: Callable[..., None]) -> None:
    rewrite(raw, lambda value: value["shards"][0].update(bytes=5))
    assert "shard-00000.beton: 4194592 bytes, the manifest says 5" in lines(raw, "quick")


def test_every_problem_is_listed(raw: Path) -> None:
    os.truncate(raw / "shard-00000.beton", 100)
    (raw / "shard-00001.json").unlink()
    (raw / "notes.txt").write_text("")
    assert verify(raw, "quick") == [
        Problem(shard=None, reason="notes.txt: wanted only files that end in .beton, .json, .jsonl, .png, .md"),
        Problem(shard="shard-00000.beton", reason="truncated: 100 bytes, its allocation table starts at 4194304"),
        Problem(shard="shard-00001.beton", reason="shard-00001.json: missing", record=True),
    ]


@pytest.mark.parametrize("label", [-2, 3, 2**62])
def test_labels_that_are_no_class(raw: Path, reseal: Reseal, label: int) -> None:
    manifest = read_manifest(raw)
    record = layout.record_dtype(manifest.fields)
    start = layout.HEADER.size + layout.DESCRIPTOR.size * len(manifest.fields)
    offset = start + record.itemsize + record.fields["label"][1]  # type: ignore[index]
    overwrite(raw / "shard-00000.beton", offset, label.to_bytes(8, "little", signed=True))
    reseal(raw)
    assert lines(raw, "quick") == [f"shard-00000.beton: sample 1 has label {label}, wanted -1 to 2"]


def test_a_disk_that_fails(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    assert lines(raw, "quick")[0].endswith("manifest.json: Input/output error")


def test_a_disk_that_fails_in_one_shard(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened = os.preadv, {}
    real_open = os.open

    def remembering(path: Any, *args: Any) -> int:
        opened[descriptor := real_open(path, *args)] = str(path)
        return descriptor

    def broken(descriptor: int, buffers: list[Any], offset: int) -> int:
        if opened[descriptor].endswith("shard-00000.beton") and offset >= PAGE:
            raise OSError(5, "Input/output error")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "open", remembering)
    monkeypatch.setattr(os, "preadv", broken)
    assert lines(raw) == ["shard-00000.beton: Input/output error"]


# --- the jsons beside them


def test_records_that_differ(raw: Path) -> None:
    path = raw / "shard-00000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 9, "\x1b[2J": 1}))
    assert lines(raw, "quick") == [
        "shard-00000.beton: shard-00000.json differs from the manifest in '\\x1b[2J', seconds",
    ]


def test_true_is_not_one(raw: Path, rewrite: Callable[..., None]) -> None:
    path = raw / "shard-00000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": True}))
    rewrite(raw, lambda value: value["shards"][0].update(threads=1))
    assert lines(raw, "quick") == ["shard-00000.beton: shard-00000.json differs from the manifest in threads"]


def test_records_that_are_missing_or_no_json(raw: Path) -> None:
    (raw / "shard-00000.json").unlink()
    (raw / "shard-00001.json").write_text("{")
    first, second = lines(raw, "quick")
    assert first == "shard-00000.beton: shard-00000.json: missing"
    assert second.startswith("shard-00001.beton: shard-00001.json: not JSON")


# --- the folder and the manifest


def test_what_is_no_dataset(tmp_path: Path, raw: Path) -> None:
    assert lines(tmp_path / "nothing") == [f"{tmp_path / 'nothing'}: no such folder; wanted a dataset folder"]
    assert lines(raw / "shard-00000.json") == [f"{raw / 'shard-00000.json'}: not a folder; wanted a dataset folder"]
    assert "no such folder" in lines(Path("a\0b"))[0]
    (raw / "manifest.json").unlink()
    assert lines(raw) == [f"{raw}/manifest.json: missing: not a dataset folder"]


def test_an_edited_manifest(raw: Path, rewrite: Callable[..., None]) -> None:
    rewrite(raw, lambda value: value["recipe"].update(seed=5), seal=False)
    (line,) = lines(raw)
    assert line.startswith(f"{raw}/manifest.json: edited or damaged")


def test_a_name_that_leaves_the_folder(raw: Path, rewrite: Callable[..., None]) -> None:
    rewrite(raw, lambda value: value["shards"][0].update(name="../raw/shard-00000.beton"))
    (line,) = lines(raw)
    assert "wanted shard-NNNNN.beton" in line


def test_files_that_may_be_there(raw: Path) -> None:
    for name in ("README.md", "sheet.png", "build.jsonl", "croissant.json"):
        (raw / name).write_text("x")
    assert lines(raw) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".lock", ".lock: hidden or temporary"),
        (".shard-00000.beton.tmp", "hidden or temporary"),
        ("setup.py", "setup.py: wanted only files that end in"),
        ("sheet.PNG", "sheet.PNG: wanted only files"),
        ("shard-00002.beton", "shard-00002.beton: not in the manifest"),
        ("Shard-00000.beton", "Shard-00000.beton: not in the manifest"),
        ("shard-00002.json", "shard-00002.json: not in the manifest"),
        ("a\nb\x1b[2J", r"'a\nb\x1b[2J': wanted only"),
        (os.fsdecode(b"\xff.exe"), r"'\udcff.exe': wanted only"),
    ],
)
def test_stray_files(raw: Path, name: str, reason: str) -> None:
    (raw / name).write_text("x")
    (problem,) = verify(raw, "quick")
    assert problem.shard is None
    assert problem.reason.startswith(reason) or reason in problem.reason
    assert problem.reason.isprintable()


def test_stray_folders_and_links(raw: Path) -> None:
    (raw / "sub.md").mkdir()
    (raw / "README.md").symlink_to("/etc/passwd")
    os.mkfifo(raw / "pipe.json")
    assert lines(raw, "quick") == [
        f"{name}: a folder, link or device, wanted regular files only" for name in ("README.md", "pipe.json", "sub.md")
    ]


def test_require_valid_raises_the_first_problem(raw: Path, tmp_path: Path) -> None:
    overwrite(raw / "shard-00001.beton", PAGE + 100, b"\xaa")
    assert require_valid(raw).num_pairs == 5
    with pytest.raises(DatasetError, match=rf"^{raw}/shard-00001.beton: sha256 is"):
        require_valid(raw, "bytes")
    os.truncate(raw / "shard-00000.beton", 4)
    with pytest.raises(DatasetError, match=rf"^{raw}/shard-00000.beton: truncated"):
        require_valid(raw)
    (raw / "manifest.json").write_text("[]")
    with pytest.raises(ManifestError, match="wanted an object"):
        require_valid(raw)
    with pytest.raises(DatasetError, match="no such folder"):
        require_valid(tmp_path / "nothing")
