"""How every command takes a dataset's folder: by its manifest too, from the home folder, missing, and beside clutter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.datasets_manifest import cli
from genrep.datasets_manifest.transport import load_manifest
from genrep.datasets_manifest.verify import require_valid, verify
from genrep.errors import DatasetError

Capture = pytest.CaptureFixture[str]
CLUTTER = (".DS_Store", "Thumbs.db", "Desktop.ini", "._shard-00000.beton")
READING = {  # every command that is given the folder of a finished dataset
    "show": ["{}"],
    "verify": ["{}"],
    "diff": ["{}", "{}"],
    "browse": ["{}", "--out", "page.html", "--force"],
    "repair": ["{}"],
    "rebuild": ["{}", "--out", "made", "--dry-run"],
    "card": ["{}"],
    "pull": ["{}", "--out", "copy"],
    "push": ["{}", "copy"],
    "export": ["{}", "--format", "folder", "--out", "images"],
    "finish": ["{}"],
    "sign": ["{}", "--key", "lab.key"],
}


def given(name: str, where: str) -> list[str]:
    return [name, *(argument.format(where) for argument in READING[name])]


def test_the_list_above_is_whole() -> None:
    assert {*READING, "list"} == set(cli.COMMANDS)


@pytest.mark.parametrize(
    "name", [name for name in READING if name not in ("sign", "finish")]
)  # need a key, a build's plan
def test_a_manifest_stands_for_its_folder(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str
) -> None:
    monkeypatch.chdir(raw.parent)
    assert invoke(cli.group, given(name, f"{raw.name}/manifest.json")) == 0, capsys.readouterr().err
    monkeypatch.setenv("HOME", str(raw.parent))
    for path in ("copy", "images"):
        shutil.rmtree(path, ignore_errors=True)
    assert invoke(cli.group, given(name, f"~/{raw.name}")) == 0, capsys.readouterr().err
    assert not (raw.parent / "~").exists()


def test_repair_from_a_manifest(raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(raw, other)
    (raw / "shard-00001.beton").unlink()
    assert invoke(cli.group, ["repair", str(raw), "--from", str(other / "manifest.json")]) == 0
    assert verify(raw) == []


def test_from_python(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(raw.parent))
    assert len(datasets_manifest.open(f"~/{raw.name}")) == len(datasets_manifest.open(raw / "manifest.json")) == 5
    assert require_valid(f"~/{raw.name}/manifest.json").num_pairs == 5


@pytest.mark.parametrize("name", [name for name in READING if name != "sign"])
def test_a_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "rebuild":
        assert invoke(cli.group, ["rebuild", "none/here", "--out", "made"]) == 1
    else:
        assert invoke(cli.group, given(name, "none/here")) == 1
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "none/here" in said and "no such folder" in said and "manifest.json" not in said


def test_a_shard_for_its_folder(raw: Path) -> None:
    with pytest.raises(DatasetError, match=r"shard-00000\.beton: a shard; wanted the dataset's folder, .*"):
        load_manifest(raw / "shard-00000.beton")


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"manifest\.json: missing: not a dataset folder$"):
        require_valid(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"missing: the build has not finished; run its command again to resume it$"):
        require_valid(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"file: not a folder"):
        require_valid(tmp_path / "file")


def littered(folder: Path) -> Path:
    for name in CLUTTER:
        (folder / name).write_bytes(b"\0clutter")
    return folder


def test_clutter_is_a_remark_to_verify(raw: Path, tmp_path: Path, capsys: Capture) -> None:
    littered(raw)
    assert invoke(cli.group, ["verify", str(raw), "--report", str(tmp_path / "report.json")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == (
        "remark: .DS_Store, ._shard-00000.beton, Desktop.ini, Thumbs.db: left by a file manager, not part of the dataset"
    )
    assert out.splitlines()[1].startswith("OK ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] is True and report["remarks"] == sorted(CLUTTER)


def test_a_link_or_a_folder_of_such_a_name_is_none(raw: Path) -> None:
    (raw / ".DS_Store").symlink_to("/etc/passwd")
    (raw / "Thumbs.db").mkdir()
    assert [problem.reason.partition(":")[0] for problem in verify(raw)] == [".DS_Store", "Thumbs.db"]


def test_clutter_is_neither_sent_nor_in_the_way(raw: Path, tmp_path: Path, capsys: Capture) -> None:
    littered(raw)
    target = tmp_path / "target"
    target.mkdir()
    assert invoke(cli.group, ["push", str(raw), str(littered(target))]) == 0, capsys.readouterr().err
    assert "DS_Store" not in "".join(capsys.readouterr())
    assert verify(target) == [] and (target / "manifest.json").exists()
    copy = tmp_path / "copy"
    copy.mkdir()
    assert invoke(cli.group, ["pull", str(raw), "--out", str(littered(copy))]) == 0
    clean = tmp_path / "clean"
    assert invoke(cli.group, ["pull", str(raw), "--out", str(clean)]) == 0
    assert not {path.name for path in clean.iterdir()} & set(CLUTTER)
    images = tmp_path / "images"
    images.mkdir()
    assert invoke(cli.group, ["export", str(raw), "--format", "folder", "--out", str(littered(images))]) == 0
    assert invoke(cli.group, ["repair", str(raw)]) == 0


def test_a_name_in_the_catalogue_is_suggested(capsys: Capture, tmp_path: Path) -> None:
    assert invoke(cli.group, ["pull", "fashion-gausian", "--out", str(tmp_path / "x")]) == 1
    assert "did you mean fashion-gaussian" in capsys.readouterr().err


def test_a_manifest_of_an_address() -> None:
    from genrep.datasets_manifest.transport.stores import store_of
    from genrep.net import Limits, Stop

    for url in ("https://example.org/set", "https://example.org/set/manifest.json"):
        assert store_of(url, Limits(), Stop()).where == "https://example.org/set"
