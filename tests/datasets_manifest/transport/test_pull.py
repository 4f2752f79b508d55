"""What ``pull`` does with a folder: whole or in part, resumed, refused, and left with nothing of its own in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genrep.datasets_manifest import catalogue
from genrep.datasets_manifest.catalogue import Entry
from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.transport import (
    Limits,
    PullConfig,
    fetch_shards,
    pull,
    read_remote_manifest,
)
from genrep.datasets_manifest.transport.pull import parse_shards
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, ResumeError
from genrep.files import locked_folder

Command = Callable[..., tuple[int, str, str]]
Same = Callable[[Path, Path], None]


@pytest.mark.slow
def test_from_a_web_server_the_same_files_arrive(
    small: Path, nginx: Callable[[Path], str], command: Command, same: Same, tmp_path: Path
) -> None:
    status, out, err = command("pull", nginx(small), "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    assert out.startswith(f"OK {tmp_path / 'out'}: 4 shards, 16,777,312 bytes fetched in ")
    same(tmp_path / "out", small)
    assert verify(tmp_path / "out", "full") == []


def test_from_a_folder_by_path_and_by_file_address(small: Path, command: Command, same: Same, tmp_path: Path) -> None:
    for source in (str(small), f"file://{small}", f"{small}/"):
        assert command("pull", source, "--out", tmp_path / "out")[0] == 0
        same(tmp_path / "out", small)
        shutil.rmtree(tmp_path / "out")


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(
    small: Path, nginx: Callable[[Path], str], same: Same, limits: Limits, tmp_path: Path
) -> None:
    config = PullConfig(source=nginx(small), out=tmp_path / "out", limits=limits)
    pull(config)
    again = pull(config)
    assert (again.kept, again.fetched) == (4, 0)
    damaged = bytearray((config.out / "shard-00002.beton").read_bytes())
    damaged[3 << 20] ^= 1
    (config.out / "shard-00002.beton").write_bytes(damaged)
    (config.out / "shard-00001.json").unlink()
    (config.out / "shard-00003.beton").unlink()
    mended = pull(config)
    assert (mended.kept, mended.fetched) == (2, 2 * len(damaged))
    same(config.out, small)


def test_without_a_manifest_shards_that_are_right_are_kept(
    small: Path, same: Same, limits: Limits, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(small, tmp_path / "out"))
    (out / "manifest.json").unlink()
    (out / ".manifest.json.tmp").write_text("{")  # of a run that was killed at the very end
    assert pull(PullConfig(source=str(small), out=out, limits=limits)).fetched == 0
    same(out, small)


def test_a_part_of_the_shards_leaves_a_partial_set_that_can_grow(
    small: Path, command: Command, same: Same, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, said, _ = command("pull", small, "--out", out, "--shards", "0,2-3")
    assert (status, said.split(",")[0]) == (0, f"OK {out}: 3 of 4 shards")
    assert sorted(path.name for path in out.glob("*.beton")) == [f"shard-0000{k}.beton" for k in (0, 2, 3)]
    assert read_manifest(out) == read_manifest(small)
    assert [problem.shard for problem in verify(out, "bytes") if not problem.record] == ["shard-00001.beton"]
    assert verify(out, "bytes", partial=True) == []
    status, said, _ = command("pull", small, "--out", out)
    assert "4 shards, 3 were there, 4,194,328 bytes fetched" in said
    same(out, small)


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1-", "0-99999999", "1,,2", "0x1", "１"])
def test_shards_that_are_no_ranges_are_a_wrong_command_line(text: str, command: Command, tmp_path: Path) -> None:
    status, _, err = command("pull", tmp_path, "--out", tmp_path / "out", "--shards", text)
    assert status == 2
    assert "wanted numbers and ranges like 0-9,12" in err


def test_shards_beyond_the_last_are_refused(small: Path, command: Command, tmp_path: Path) -> None:
    assert parse_shards("0-2, 2,7") == (0, 1, 2, 7)
    status, _, err = command("pull", small, "--out", tmp_path / "out", "--shards", "2-7")
    assert (status, err) == (1, "Error: genrep-manifest: --shards: 7 was asked for, the dataset has 0 to 3\n")
    with pytest.raises(DatasetError, match=r"^shards: 7 was asked for, the dataset has 0 to 3$"):
        pull(PullConfig(source=str(small), out=tmp_path / "out", shards=(2, 7)))


def test_another_dataset_in_the_folder_is_refused_with_what_differs(
    small: Path, raw: Path, command: Command, tmp_path: Path
) -> None:
    before = {path.name for path in raw.iterdir()}
    status, _, err = command("pull", small, "--out", raw)
    assert status == 1
    assert "another dataset is there: recipe.encoding, recipe.generator, recipe.num_pairs" in err
    assert {path.name for path in raw.iterdir()} == before


def test_the_same_recipe_with_other_shards_is_another_dataset(
    small: Path, rewrite: Callable[..., None], limits: Limits, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(small, tmp_path / "other"))
    rewrite(other, lambda manifest: manifest["shards"][1].update(sha256="0" * 64))
    with pytest.raises(ResumeError, match="another dataset is there: shards differs"):
        pull(PullConfig(source=str(other), out=Path(shutil.copytree(small, tmp_path / "out")), limits=limits))


def test_a_half_done_pull_of_another_dataset_is_refused(small: Path, raw: Path, limits: Limits, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lacking = Path(shutil.copytree(small, tmp_path / "lacking"))
    (lacking / "shard-00001.beton").unlink()
    with pytest.raises(DatasetError, match=r"lacking: shard-00001.beton: missing"):
        pull(PullConfig(source=str(lacking), out=out, limits=limits))
    with pytest.raises(ResumeError, match="another dataset is there"):
        pull(PullConfig(source=str(raw), out=out, limits=limits))
    pull(PullConfig(source=str(small), out=out, limits=limits))


@pytest.mark.parametrize("name, text", [("recipe.json", "{}"), ("notes.txt", "mine"), ("shard-00004.beton", "")])
def test_a_folder_that_holds_something_else_is_refused(
    name: str, text: str, small: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    status, _, err = command("pull", small, "--out", tmp_path / "out")
    assert status == 1
    assert re.search(rf"{re.escape(name)} there (is not part of|belongs to another)", err)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_two_at_a_time_are_refused(small: Path, command: Command, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "out"):
        status, _, err = command("pull", small, "--out", tmp_path / "out")
    assert (status, "another process is using" in err) == (1, True)


def test_the_digest_that_was_asked_for(small: Path, command: Command, tmp_path: Path) -> None:
    digest = read_manifest(small).digest
    status, _, err = command("pull", small, "--out", tmp_path / "out", "--digest", "0" * 64)
    assert status == 1
    assert f"its digest is {digest}, wanted {'0' * 64}" in err
    assert not (tmp_path / "out").exists()
    status, _, err = command("pull", small, "--out", tmp_path / "out", "--digest", "abc")
    assert (status, "genrep-manifest: --digest abc: wanted the 64" in err) == (1, True)
    with pytest.raises(DatasetError, match=r"^digest abc: wanted the 64 hexadecimal digits"):
        pull(PullConfig(source=str(small), out=tmp_path / "out", digest="abc"))
    assert command("pull", small, "--out", tmp_path / "out", "--digest", digest.upper())[0] == 0


def test_a_name_of_the_catalogue_tries_its_addresses_and_trusts_its_digest(
    small: Path, raw: Path, command: Command, same: Same, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(small)

    def publish(*urls: str, digest: str | None = None) -> None:
        facts = {"title": "Tiny", "licence": "MIT", "num_pairs": 4, "bytes": 1, "image": [8, 6], "id": manifest.id}
        entry = Entry(name="tiny", digest=digest, make={"gen": "x", "num_pairs": 4}, urls=list(urls), **facts)
        monkeypatch.setattr(catalogue, "entries", lambda: [entry])

    publish(f"{tmp_path}/gone", str(small), digest=manifest.digest)
    assert command("pull", "tiny", "--out", tmp_path / "out")[0] == 0
    same(tmp_path / "out", small)
    publish(str(raw), digest=manifest.digest)
    assert "it is another dataset: its digest is" in command("pull", "tiny", "--out", tmp_path / "out2")[2]
    publish(str(raw))
    assert "it is another dataset: its id is" in command("pull", "tiny", "--out", tmp_path / "out2")[2]
    publish()
    missing = command("pull", "tiny", "--out", tmp_path / "out2")[2]
    assert "tiny: not published yet; genrep-generate dataset --gen x --num-pairs 4 makes it" in missing
    assert "nor a published dataset; known: tiny" in command("pull", "tinier", "--out", tmp_path / "out2")[2]


@pytest.mark.parametrize(
    "source",
    ["ftp+x://host/a", "nothere", "file://other/tmp", "hf://org/name", "hf://datasets/a/../b", "http://", "http://[/"],
)
def test_places_that_cannot_be_are_one_line(source: str, command: Command, tmp_path: Path) -> None:
    status, _, err = command("pull", source, "--out", tmp_path / "out")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "unexpected" not in err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_takes_no_more_is_one_line_and_the_rest_follows_later(
    small: Path, same: Same, limits: Limits, tmp_path: Path
) -> None:
    pull_there = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))
import sys
sys.argv = ["genrep-manifest", "pull", {str(small)!r}, "--out", {str(tmp_path / "out")!r}]
from genrep.datasets_manifest.cli import main
main()
"""
    run = subprocess.run([sys.executable, "-c", pull_there], capture_output=True, text=True)
    assert run.returncode == 1
    assert "cannot write shard-0000" in run.stderr
    assert "File too large" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not list((tmp_path / "out").glob("shard*"))
    report = pull(PullConfig(source=str(small), out=tmp_path / "out", limits=limits))
    assert report.fetched < read_manifest(small).num_bytes
    same(tmp_path / "out", small)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    small: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    status, _, err = command("pull", small, "--out", tmp_path / "out")
    assert (status, "16777312 bytes are still to fetch, the disk has 1000 left" in err) == (1, True)


def test_fetch_shards_replaces_exactly_what_is_named(small: Path, same: Same, limits: Limits, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "out"))
    for name in ("shard-00001.beton", "shard-00003.beton"):
        (folder / name).write_bytes(b"bad")
    assert fetch_shards(str(small), folder, ["shard-00001.beton", "shard-00003.beton"], limits=limits) == 2 * 4194328
    same(folder, small)
    with pytest.raises(DatasetError, match=r"shard-00009.beton is not one of its 4 shards"):
        fetch_shards(str(small), folder, ["shard-00009.beton"], limits=limits)


def test_a_manifest_is_read_from_anywhere(small: Path, nginx: Callable[[Path], str], tmp_path: Path) -> None:
    assert read_remote_manifest(nginx(small)) == read_manifest(small) == read_remote_manifest(str(small))
    with pytest.raises(
        DatasetError, match=r"no finished dataset there: manifest.json: the server answers 404 Not Found"
    ):
        read_remote_manifest(f"{nginx(small)}/nowhere")


def test_a_dry_run_prints_no_password_and_does_nothing(command: Command, tmp_path: Path) -> None:
    address = "https://user:secret@example.org/d?token=secret"
    status, out, _ = command("pull", address, "--out", tmp_path / "out", "--dry-run")
    assert status == 0
    assert json.loads(out)["source"] == "https://example.org/d"
    assert json.loads(out)["limits"] == {"timeout": 60.0, "min_rate": 4096.0, "retries": 5, "backoff": 1.0}
    assert "secret" not in out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_a_strangers_note_that_a_shard_was_checked_is_not_believed(
    finished: bool, small: Path, same: Same, limits: Limits, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(small, tmp_path / "out"))
    shard, path = read_manifest(small).shards[2], out / "shard-00002.beton"
    damaged = bytearray(path.read_bytes())
    damaged[3 << 20] ^= 1
    path.write_bytes(damaged)
    (out / ".genrep-pull").mkdir()
    facts = [shard.name, shard.sha256, shard.bytes, path.stat().st_mtime_ns]
    (out / ".genrep-pull" / "verified").write_text(json.dumps(facts) + "\n")
    if finished:  # as repair --from does
        assert fetch_shards(str(small), out, [shard.name], limits=limits) == shard.bytes
    else:
        (out / "manifest.json").unlink()
        assert pull(PullConfig(source=str(small), out=out, limits=limits)).fetched == shard.bytes
    same(out, small)


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_datasets_own_folder_takes_no_copy_of_it(
    verb: str, small: Path, command: Command, same: Same, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "in"))
    (tmp_path / "link").symlink_to(folder)
    for target in (folder / "sub", folder / "a" / "b", tmp_path / "link" / "sub"):
        status, _, err = command(*(("push", folder, target) if verb == "push" else ("pull", folder, "--out", target)))
        assert (status, "lies in the dataset, which holds nothing but its own files" in err) == (1, True)
        same(folder, small)
    assert command(*(("push", folder, folder) if verb == "push" else ("pull", folder, "--out", folder)))[0] == 0
    assert command("pull", folder, "--out", f"{folder}-2")[0] == 0  # beside it, with a name that begins alike
    same(folder, small)
