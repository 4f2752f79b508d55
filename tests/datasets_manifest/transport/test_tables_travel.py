"""Tables of rows travel like shards: resumed, checked before they get their name, and never another dataset's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_server
import pytest

from genrep.datasets_manifest import read_manifest, write_manifest
from genrep.datasets_manifest.manifest import build_manifest
from genrep.datasets_manifest.tables import write_prompts
from genrep.datasets_manifest.transport import Limits, PullConfig, PushConfig, fetch_tables, pull, push
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, ResumeError

Same = Callable[[Path, Path], None]
KINDS = pytest.mark.parametrize("kind", ["prompted", "anchored"])
DIES = """
import os, sys
from pathlib import Path
from genrep.datasets_manifest.transport import Limits, PullConfig, PushConfig, fetch, pull, push, upload

def die(*_, **__):
    os._exit(9)

verb, source, target, where = sys.argv[1:]
if where == "inside":  # a part of the table is on the disk
    written = fetch._write
    fetch._write = lambda descriptor, data: (written(descriptor, data[:1000]), die())
elif where == "before its name":
    fetch.Fetch._place = die
elif where == "after it":
    fetch.Fetch._shard = (lambda shard: lambda self, file: die() if file.name == "shard-00001.beton" else shard(self, file))(
        fetch.Fetch._shard
    )
elif where == "sent":  # the table is in the store, nothing else
    upload._Push._send_shard = (
        lambda send: lambda self, file: send(self, file) if file.name.endswith("l") else die()
    )(upload._Push._send_shard)
    upload._Push.small = die
limits = Limits(timeout=20, retries=3, backoff=0.02)
if verb == "pull":
    pull(PullConfig(source=source, out=Path(target), limits=limits, jobs=1))
else:
    push(PushConfig(folder=Path(source), target=target, limits=limits, jobs=1))
"""


def killed(verb: str, source: object, target: object, where: str) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, verb, str(source), str(target), where], check=False)
    assert done.returncode == 9


@KINDS
@pytest.mark.parametrize("kind_of_place", ["folder", "s3", "memory"])
def test_there_and_back(
    originals: dict[str, Path], kind: str, kind_of_place: str, bucket: str, limits: Limits, same: Same, tmp_path: Path
) -> None:
    place = {"folder": tmp_path / "there", "s3": f"{bucket}/d", "memory": f"memory://{tmp_path.name}{kind}"}[
        kind_of_place
    ]
    sent = push(PushConfig(folder=originals[kind], target=str(place), limits=limits))
    manifest = read_manifest(originals[kind])
    assert sent.sent >= manifest.num_bytes + manifest.tables[0]["bytes"]
    report = pull(PullConfig(source=str(place), out=tmp_path / "back", limits=limits))
    assert report.fetched == manifest.num_bytes + manifest.tables[0]["bytes"]
    same(tmp_path / "back", originals[kind])
    again = push(PushConfig(folder=originals[kind], target=str(place), limits=limits))
    assert again.kept == 2
    assert again.sent < manifest.tables[0]["bytes"] + manifest.num_bytes


@KINDS
def test_from_a_web_server_with_verify(
    originals: dict[str, Path], kind: str, limits: Limits, same: Same, known_latents: object, tmp_path: Path
) -> None:
    with folder_server.serving(originals[kind]) as address:
        pull(PullConfig(source=address, out=tmp_path / "out", limits=limits))
    same(tmp_path / "out", originals[kind])
    assert verify(tmp_path / "out", "full") == []


def test_a_part_of_the_shards_comes_with_the_whole_table(
    originals: dict[str, Path], limits: Limits, tmp_path: Path
) -> None:
    pull(PullConfig(source=str(originals["prompted"]), out=tmp_path / "out", shards=(1,), limits=limits))
    assert not (tmp_path / "out/shard-00000.beton").exists()
    assert verify(tmp_path / "out", "bytes", partial=True) == []
    (tmp_path / "out/prompts.jsonl").unlink()
    assert [str(problem) for problem in verify(tmp_path / "out", partial=True)] == ["prompts.jsonl: missing"]


@pytest.mark.parametrize("where", ["inside", "before its name", "after it"])
@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_killed_transfer_between_folders_goes_on(
    large_table: Path, same: Same, verb: str, where: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed(verb, large_table, out, where)
    assert not (out / "manifest.json").exists()
    assert (out / "prompts.jsonl").exists() == (where == "after it")
    report = pull(PullConfig(source=str(large_table), out=out))
    there = {"inside": 1000, "before its name": None, "after it": None}[where]
    manifest = read_manifest(large_table)
    size = manifest.tables[0]["bytes"]
    assert report.fetched == manifest.num_bytes + size - (there or size) - (
        manifest.shards[0].bytes if where == "after it" else 0
    )
    same(out, large_table)


@pytest.fixture
def large_table(originals: dict[str, Path], tmp_path: Path) -> Path:
    """The prompted set with a table of 3 MB."""
    folder = Path(shutil.copytree(originals["prompted"], tmp_path / "large"))
    facts = write_prompts(folder / "prompts.jsonl", ((f"{i} " * 20, None) for i in range(20_000)))
    given = read_manifest(folder)
    recipe = {**given.recipe, "prompts": {key: facts[key] for key in ("sha256", "count")}}
    write_manifest(folder, build_manifest(recipe, given.fields, given.classes, given.shards, given.build, [facts]))
    return folder


def test_a_killed_push_to_a_bucket_sends_the_table_once(
    large_table: Path, bucket: str, limits: Limits, same: Same, tmp_path: Path
) -> None:
    killed("push", large_table, f"{bucket}/d", "sent")
    manifest = read_manifest(large_table)
    report = push(PushConfig(folder=large_table, target=f"{bucket}/d", limits=limits))
    assert manifest.num_bytes < report.sent < manifest.num_bytes + manifest.tables[0]["bytes"]
    pull(PullConfig(source=f"{bucket}/d", out=tmp_path / "back", limits=limits))
    same(tmp_path / "back", large_table)


def test_another_table_of_the_same_size_in_a_bucket_is_replaced(
    originals: dict[str, Path], bucket: str, limits: Limits, same: Same, tmp_path: Path
) -> None:
    import boto3

    other = (originals["prompted"] / "prompts.jsonl").read_bytes().replace(b"a cat", b"a dog")
    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="d/prompts.jsonl", Body=other)
    push(PushConfig(folder=originals["prompted"], target=f"{bucket}/d", limits=limits))
    pull(PullConfig(source=f"{bucket}/d", out=tmp_path / "back", limits=limits))
    same(tmp_path / "back", originals["prompted"])


def test_a_damaged_table_is_not_sent(prompted: Path, bucket: str, limits: Limits, tmp_path: Path) -> None:
    path = prompted / "prompts.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a cat", b"a dog"))
    for target in (f"{bucket}/d", str(tmp_path / "out")):
        with pytest.raises(DatasetError, match=r"prompts\.jsonl: its sha256 is .*, the manifest says "):
            push(PushConfig(folder=prompted, target=target, limits=limits))
    assert not (tmp_path / "out/prompts.jsonl").exists()


def test_a_table_that_is_there_and_damaged_is_fetched_again(
    originals: dict[str, Path], prompted: Path, limits: Limits, same: Same
) -> None:
    path = prompted / "prompts.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a cat", b"a dog"))
    report = pull(PullConfig(source=str(originals["prompted"]), out=prompted, limits=limits))
    assert (report.fetched, report.kept) == (path.stat().st_size, 2)
    same(prompted, originals["prompted"])


def test_a_hostile_table_with_the_right_digest_never_gets_its_name(
    prompted: Path, rewrite: Callable[..., None], limits: Limits, tmp_path: Path
) -> None:
    path = prompted / "prompts.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a cow", b"\x1b[2J "))
    facts = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

    def seal(value: dict[str, Any]) -> None:
        value["tables"][0] |= {**facts, "bytes": path.stat().st_size}
        value["recipe"]["prompts"] |= facts

    rewrite(prompted, seal)
    with pytest.raises(
        DatasetError, match=r"prompts\.jsonl: line 4: not JSON: .*; the dataset itself is damaged"
    ) as caught:
        pull(PullConfig(source=str(prompted), out=tmp_path / "out", limits=limits))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "out/prompts.jsonl").exists()
    assert not (tmp_path / "out/manifest.json").exists()


def test_only_the_tables_are_fetched_where_only_they_are_wanted(
    originals: dict[str, Path], limits: Limits, tmp_path: Path
) -> None:
    manifest = read_manifest(originals["anchored"])
    fetched = fetch_tables(str(originals["anchored"]), tmp_path, ["sources.jsonl"], manifest=manifest, limits=limits)
    assert (os.listdir(tmp_path), fetched) == (["sources.jsonl"], manifest.tables[0]["bytes"])


def test_a_folder_with_a_table_and_no_manifest_is_anothers_only_if_the_set_has_none(
    originals: dict[str, Path], limits: Limits, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(originals["prompted"] / "prompts.jsonl", out)
    with pytest.raises(ResumeError, match=r"prompts\.jsonl there is not part of this dataset"):
        pull(PullConfig(source=str(originals["raw"]), out=out, limits=limits))
    assert pull(PullConfig(source=str(originals["prompted"]), out=out, limits=limits)).kept == 0
