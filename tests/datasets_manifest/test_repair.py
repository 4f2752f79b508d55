"""repair: bad and missing shards come back to the same sha256, and nothing else in the folder is touched."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.across import RegenerationConfig
from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.recovery.repair import RepairConfig, RepairReport, repair
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, RecipeError, ResumeError

Contents = Callable[[Path], dict[str, bytes]]
Rewrite = Callable[..., None]


def mend(folder: Path, **options: Any) -> RepairReport:
    return repair(RepairConfig(folder=folder, making=RegenerationConfig(processes=1), **options))


def damage(folder: Path) -> None:
    """A shard that is gone, one with a flipped byte, and a record that is no record."""
    (folder / "shard-00001.beton").unlink()
    with open(folder / "shard-00002.beton", "r+b") as file:
        file.seek((2 << 20) + 5)
        file.write(b"\xaa")
    (folder / "shard-00000.json").write_text("{")


def elsewhere(folder: Path, rewrite: Rewrite, k: int = 1) -> None:
    """Let shard k be gone, and its manifest state what another machine's bytes could be."""
    rewrite(folder, lambda value: value["shards"][k].update(sha256="0" * 64))
    (folder / f"shard-0000{k}.beton").unlink()
    record = json.loads((folder / "manifest.json").read_text())["shards"][k]
    (folder / f"shard-0000{k}.json").write_text(json.dumps(record))


def test_the_folder_is_what_it_was(
    fashion: Path, fashion_original: Path, contents: Contents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(fashion)
    (fashion / ".repair").mkdir()  # of a repair that was killed
    (fashion / ".repair" / "shard-00000.beton").write_text("x")
    untouched = (fashion / "shard-00000.beton").stat()
    report = tmp_path / "report.json"
    assert invoke(cli.group, ["repair", str(fashion), "--processes", "1", "--report", str(report)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shard-00001.beton: repaired",
        "shard-00002.beton: repaired",
        "shard-00000.json: rewritten",
    ]
    assert contents(fashion) == contents(fashion_original)
    now = (fashion / "shard-00000.beton").stat()
    assert (now.st_ino, now.st_mtime_ns) == (untouched.st_ino, untouched.st_mtime_ns)
    value = json.loads(report.read_text())
    assert value["repaired"] == ["shard-00001.beton", "shard-00002.beton"] and value["left"] == []


def test_nothing_to_repair(raw: Path, contents: Contents, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(raw)
    assert invoke(cli.group, ["repair", str(raw)]) == 0  # of a set that could not be made again
    assert capsys.readouterr().out == f"{raw}: nothing to repair\n"
    assert contents(raw) == before


def test_shards_from_another_folder(fashion: Path, fashion_original: Path, contents: Contents) -> None:
    damage(fashion)
    found = mend(fashion, source=str(fashion_original))
    assert found.repaired == ["shard-00001.beton", "shard-00002.beton"] and found.left == []
    assert contents(fashion) == contents(fashion_original)


def test_a_source_that_has_other_bytes(fashion: Path, fashion_original: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(fashion_original, tmp_path / "source"))
    for folder in (fashion, source):
        with open(folder / "shard-00001.beton", "r+b") as file:
            file.seek((2 << 20) + 5)
            file.write(b"\xaa")
    with pytest.raises(DatasetError, match=r"shard-00001\.beton"):
        mend(fashion, source=str(source))
    assert [problem.shard for problem in verify(fashion) if problem.shard] == ["shard-00001.beton"]


def test_other_bytes_are_refused_with_how_to_take_them(
    fashion: Path, rewrite: Rewrite, contents: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere(fashion, rewrite)
    before = contents(fashion)
    assert invoke(cli.group, ["repair", str(fashion), "--processes", "1"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("shard-00001.beton: rebuilt, it has the same latents, images that agree with the finger")
    assert "--accept-fingerprints accepts it" in out and err.endswith("1 problem left\n")
    assert contents(fashion) == before


def test_other_bytes_that_are_accepted_change_the_digest_and_not_the_id(fashion: Path, rewrite: Rewrite) -> None:
    elsewhere(fashion, rewrite)
    before = read_manifest(fashion)
    found = mend(fashion, accept_fingerprints=True)
    after = read_manifest(fashion)
    assert found.accepted == ["shard-00001.beton"] and found.left == [] and found.digest == after.digest
    assert after.id == before.id and after.digest != before.digest
    assert after.shards[1].facts["replaces"] == "0" * 64
    assert after.shards[::2] == before.shards[::2]
    assert verify(fashion, "full") == []


def test_other_images_and_other_latents_are_never_accepted(fashion: Path, rewrite: Rewrite) -> None:
    def mutate(value: dict[str, Any]) -> None:
        fingerprint = value["shards"][0]["fingerprint"]
        fingerprint["thumbnails"] = base64.b64encode(bytes(2 * 192 * len(fingerprint["indices"]))).decode()
        value["shards"][2]["latents_sha256"] = "1" * 64

    rewrite(fashion, mutate)
    elsewhere(fashion, rewrite, 0)
    elsewhere(fashion, rewrite, 2)
    first, second = mend(fashion, accept_fingerprints=True).left
    assert first.startswith("shard-00000.beton: rebuilt, it has the same latents, but images that differ by up to")
    assert second.startswith("shard-00002.beton: rebuilt, it has other latents (there cpu, batches of 4, torch ")
    assert {problem.shard for problem in verify(fashion)} == {"shard-00000.beton", "shard-00002.beton"}


def test_what_is_not_a_shard_is_left_and_said(fashion: Path) -> None:
    (fashion / "x.sh").write_text("x")
    (fashion / "shard-00001.beton").unlink()
    found = mend(fashion)
    assert found.repaired == ["shard-00001.beton"]
    assert found.left == ["x.sh: wanted only files that end in .beton, .json, .jsonl, .png, .md"]
    assert (fashion / "x.sh").exists()


def test_what_cannot_be_made_again_stays_as_it_is(raw: Path, contents: Contents) -> None:
    (raw / "shard-00001.beton").unlink()
    before = contents(raw)
    with pytest.raises(RecipeError, match="not a recipe of genrep-generate"):
        mend(raw)
    assert contents(raw) == before


def test_a_folder_that_another_process_is_at(raw: Path) -> None:
    descriptor = os.open(raw, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ResumeError, match="another process is using"):
        mend(raw)
    os.close(descriptor)


@pytest.mark.parametrize("name", [".shard-00000.json.tmp", ".repair", ".manifest.json.tmp"])
def test_nothing_is_written_through_a_strangers_link(fashion: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("mine")
    (fashion / name).symlink_to(target if name == ".repair" else target / "file")
    damage(fashion)
    with pytest.raises(DatasetError, match=f"holds the hidden link {name}; remove it"):
        mend(fashion)
    assert (target / "file").read_text() == "mine" and len(list(target.iterdir())) == 1


def test_links_in_a_shards_place_are_replaced_not_followed(
    fashion: Path, fashion_original: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    for name in ("shard-00001.beton", "shard-00000.json"):
        (fashion / name).unlink()
        (fashion / name).symlink_to(target)
    assert mend(fashion).left == []
    assert target.read_text() == "mine"
    assert not (fashion / "shard-00001.beton").is_symlink() and verify(fashion) == []


# Runs a repair that is killed in place of the call that the first argument names.
KILLED = """
import importlib, os, signal, sys
from genrep.datasets_manifest.cli import group
from genrep.cli import invoke
module, _, name = sys.argv[1].rpartition(":")
place = importlib.import_module(module)
*path, last = name.split(".")
for part in path:
    place = getattr(place, part)
setattr(place, last, lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL))
invoke(group, sys.argv[2:])
"""
FETCH = "genrep.datasets_manifest.transport.fetch"
REPAIR = "genrep.datasets_manifest.recovery.repair"


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        f"{FETCH}:Fetch.clear",
        f"{FETCH}:Fetch._write_record",
        f"{FETCH}:write_shard_record",
        f"{FETCH}:verify_shard",
        f"{REPAIR}:strays",
    ],
)
@pytest.mark.parametrize("again", ["same", "alone"])
def test_a_killed_fetch_is_ended_by_the_same_command_and_by_repair_alone(
    fashion: Path, fashion_original: Path, contents: Contents, moment: str, again: str
) -> None:
    (fashion / "shard-00001.beton").unlink()
    (fashion / "shard-00001.json").unlink()
    source = ["--from", str(fashion_original)]
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, "repair", str(fashion), *source], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert invoke(cli.group, ["repair", str(fashion), "--processes", "1", *(source if again == "same" else ())]) == 0
    assert contents(fashion) == contents(fashion_original)
    assert verify(fashion, "full") == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", [f"{REPAIR}:write_manifest"])
def test_a_killed_acceptance_is_ended_by_the_same_command(fashion: Path, rewrite: Rewrite, moment: str) -> None:
    elsewhere(fashion, rewrite)
    command = ["repair", str(fashion), "--processes", "1", "--accept-fingerprints"]
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert invoke(cli.group, command) == 0
    assert verify(fashion, "full") == []
    assert read_manifest(fashion).digest in (fashion / "README.md").read_text()


def test_what_a_killed_writer_had_not_named_yet_is_removed(fashion: Path, contents: Contents) -> None:
    before = contents(fashion)
    for name in (".manifest.json.tmp", ".shard-00001.json.tmp", ".README.md.0123456789abcdef.tmp"):
        (fashion / name).write_text("x")
    assert mend(fashion).left == []
    assert contents(fashion) == before


def test_no_folder_no_manifest(tmp_path: Path, raw: Path) -> None:
    (raw / "manifest.json").write_text("{}")
    for folder in (tmp_path / "nothing", raw):
        assert invoke(cli.group, ["repair", str(folder)]) == 1
    assert not (tmp_path / "nothing").exists()
