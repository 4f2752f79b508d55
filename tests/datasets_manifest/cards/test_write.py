"""Writing the card: the same bytes each time, before the manifest as after it, and never over what somebody wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli
from genrep.datasets_manifest.cards import CardConfig, write_card
from genrep.datasets_manifest.manifest import read_manifest, write_manifest
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError

Capture = pytest.CaptureFixture[str]
NAMES = ("croissant.json", "README.md")
BOTH = {"README.md", "croissant.json"}


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_the_command_writes_both_and_they_belong_there(raw: Path, capsys: Capture) -> None:
    assert invoke(cli.group, ["card", str(raw)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(raw / name) for name in NAMES]
    assert verify(raw, "full") == []


def test_the_same_bytes_whenever_and_wherever(raw: Path, tmp_path: Path) -> None:
    write_card(CardConfig(folder=raw))
    first = files(raw)
    stamps = [(raw / name).stat().st_mtime_ns for name in NAMES]
    write_card(CardConfig(folder=raw))
    assert files(raw) == first
    assert [(raw / name).stat().st_mtime_ns for name in NAMES] == stamps
    moved = tmp_path / "moved"
    raw.rename(moved)
    for name in NAMES:
        (moved / name).unlink()
    write_card(CardConfig(folder=moved))
    assert files(moved) == first


def test_a_build_writes_it_before_its_manifest(raw: Path) -> None:
    manifest = read_manifest(raw)
    write_manifest(raw, manifest)  # in the form that a build writes
    write_card(CardConfig(folder=raw))
    after = files(raw)
    for name in (*NAMES, "manifest.json"):
        (raw / name).unlink()
    report = write_card(CardConfig(folder=raw), manifest)
    assert set(report.written) == BOTH
    assert files(raw) == after


def test_it_costs_a_build_nothing(raw: Path) -> None:
    write_card(CardConfig(folder=raw))
    for shard in raw.glob("*.beton"):
        shard.write_bytes(b"")  # whoever reads pixels for a card would fail
    write_card(CardConfig(folder=raw, force=True))


def test_what_somebody_edited_is_kept(raw: Path, capsys: Capture) -> None:
    write_card(CardConfig(folder=raw))
    first = files(raw)
    edited = first["README.md"].replace(b"# `", b"# Ours: `")
    (raw / "README.md").write_bytes(edited)
    report = write_card(CardConfig(folder=raw))
    assert (report.written, report.kept) == (("croissant.json",), ("README.md",))
    assert files(raw) == first | {"README.md": edited}
    assert invoke(cli.group, ["card", str(raw)]) == 1
    _, err = capsys.readouterr()
    wanted = f"{raw}: README.md: edited, or not written by this command; --force overwrites"
    assert err == f"Error: genrep-manifest: {wanted}\n"
    assert invoke(cli.group, ["card", str(raw), "--force"]) == 0
    assert files(raw) == first


@pytest.mark.parametrize(
    "text",
    [b"", b"# Ours\n", b"\xff\xfe", b"<!-- genrep-manifest card: sha256 " + b"0" * 64 + b" above -->\n"],
)
def test_a_card_of_somebody_elses_is_kept(raw: Path, text: bytes) -> None:
    (raw / "README.md").write_bytes(text)
    (raw / "croissant.json").write_bytes(b"{}")
    report = write_card(CardConfig(folder=raw))
    assert (set(report.kept), report.written) == (BOTH, ())
    assert files(raw) == {"README.md": text, "croissant.json": b"{}"}


def test_text_below_the_mark_is_an_edit(raw: Path) -> None:
    write_card(CardConfig(folder=raw))
    with open(raw / "README.md", "ab") as file:
        file.write(b"\nWe used it for ...\n")
    assert write_card(CardConfig(folder=raw)).kept == ("README.md",)


def test_an_untouched_card_follows_the_manifest(raw: Path, rewrite: Callable[..., None]) -> None:
    write_card(CardConfig(folder=raw))
    first = files(raw)

    def other(value: dict[str, Any]) -> None:
        value["build"]["licence"] = "CC-BY-NC 4.0"

    rewrite(raw, other)
    assert write_card(CardConfig(folder=raw)).kept == ()
    second = files(raw)
    assert b"license: cc-by-nc-4.0" in second["README.md"]
    assert all(second[name] != first[name] for name in NAMES)


def test_an_edited_croissant_is_kept_beside_an_untouched_card(raw: Path, rewrite: Callable[..., None]) -> None:
    write_card(CardConfig(folder=raw))
    (raw / "croissant.json").write_bytes(b"{}")
    rewrite(raw, lambda value: value["build"].update(licence="MIT"))
    report = write_card(CardConfig(folder=raw))
    assert (report.written, report.kept) == (("README.md",), ("croissant.json",))
    assert write_card(CardConfig(folder=raw)).kept == ("croissant.json",)


@pytest.mark.parametrize("name", NAMES)
def test_links_are_not_followed(raw: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    os.symlink(target, raw / name)
    with pytest.raises(DatasetError, match="symbolic link"):
        write_card(CardConfig(folder=raw, force=True))
    assert target.read_text() == "mine"


@pytest.mark.parametrize("name", NAMES)
def test_enormous_files_are_not_read(raw: Path, name: str) -> None:
    with open(raw / name, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DatasetError, match=f"{name}: {1 << 40} bytes, wanted at most"):
        write_card(CardConfig(folder=raw))


def test_what_is_no_dataset(tmp_path: Path, capsys: Capture) -> None:
    assert invoke(cli.group, ["card", str(tmp_path)]) == 1
    assert "manifest.json: missing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
