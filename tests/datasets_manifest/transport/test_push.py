"""``push`` to folders, an S3 server and the Hub, and ``pull`` from there."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest

from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.transport import Limits, PullConfig, PushConfig, pull, push, stores
from genrep.datasets_manifest.transport.hub import check_advice
from genrep.errors import DatasetError, ResumeError
from genrep.net import Refused

Command = Callable[..., tuple[int, str, str]]
Same = Callable[[Path, Path], None]


def test_to_a_folder_and_again(small: Path, command: Command, same: Same, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    status, out, err = command("push", small, f"file://{target}")
    assert (status, err) == (0, "")
    assert ": 4 shards, 16,777,312 bytes sent in " in out
    same(target, small)
    assert "4 shards, 4 were there, 0 bytes sent" in command("push", small, target)[1]


def test_a_damaged_dataset_is_not_sent(small: Path, command: Command, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "in"))
    data = bytearray((folder / "shard-00002.beton").read_bytes())
    data[3 << 20] ^= 1
    (folder / "shard-00002.beton").write_bytes(data)
    for target in (str(tmp_path / "out"), "memory://damaged"):
        status, _, err = command("push", folder, target)
        assert status == 1
        assert "shard-00002.beton: its sha256 is " in err
    (folder / "shard-00002.beton").unlink()
    status, _, err = command("push", folder, tmp_path / "other")
    assert (status, "shard-00002.beton: missing" in err) == (1, True)


@pytest.mark.slow
def test_another_dataset_is_not_written_over(small: Path, raw: Path, command: Command, bucket: str) -> None:
    before = {path.name for path in raw.iterdir()}
    status, _, err = command("push", small, raw)
    assert (status, "another dataset is there: recipe." in err, "--out" in err) == (1, True, False)
    assert {path.name for path in raw.iterdir()} == before
    assert command("push", small, f"{bucket}/d")[0] == 0
    status, _, err = command("push", raw, f"{bucket}/d")
    assert status == 1
    assert f"{bucket}/d: another dataset is there: its " in err


def test_web_servers_are_read_only(small: Path, command: Command) -> None:
    status, _, err = command("push", small, "https://user:secret@example.org/d")
    assert (status, err.count("\n")) == (1, 1)
    assert "https://example.org/d: web servers are read only" in err


def test_to_a_bucket_and_back(small: Path, bucket: str, command: Command, same: Same, tmp_path: Path) -> None:
    (extra := Path(shutil.copytree(small, tmp_path / "in")) / "log.jsonl").write_text("{}\n")
    status, _, err = command("push", extra.parent, f"{bucket}/sets/d")
    assert (status, err) == (0, "not sent: log.jsonl\n")
    assert command("pull", f"{bucket}/sets/d", "--out", tmp_path / "out")[0] == 0
    same(tmp_path / "out", small)


def test_an_interrupted_push_is_not_finished_and_goes_on(
    small: Path, bucket: str, limits: Limits, same: Same, tmp_path: Path
) -> None:
    import boto3

    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    push(PushConfig(folder=small, target=f"{bucket}/d", limits=limits))
    for key in ("manifest.json", "shard-00001.json", "shard-00002.beton"):
        client.delete_object(Bucket=name, Key=f"d/{key}")
    client.put_object(Bucket=name, Key="d/shard-00001.beton", Body=b"of an earlier try")
    with pytest.raises(DatasetError, match="no finished dataset there"):
        pull(PullConfig(source=f"{bucket}/d", out=tmp_path / "out", limits=limits))
    assert push(PushConfig(folder=small, target=f"{bucket}/d", limits=limits)).kept == 2
    pull(PullConfig(source=f"{bucket}/d", out=tmp_path / "out", limits=limits))
    same(tmp_path / "out", small)


def test_a_shard_that_fails_while_it_is_sent_never_appears(
    small: Path, bucket: str, limits: Limits, tmp_path: Path
) -> None:
    import boto3

    folder = Path(shutil.copytree(small, tmp_path / "in"))
    data = bytearray((folder / "shard-00000.beton").read_bytes())
    data[3 << 20] ^= 1
    (folder / "shard-00000.beton").write_bytes(data)
    with pytest.raises(DatasetError, match=r"shard-00000.beton: its sha256 is"):
        push(PushConfig(folder=folder, target=f"{bucket}/d", limits=limits, jobs=1))
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket.removeprefix("s3://"))
    keys = {entry["Key"] for entry in listed.get("Contents", [])}
    assert not keys & {"d/shard-00000.beton", "d/shard-00000.json", "d/manifest.json"}


@pytest.fixture
def halted(limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """``halted(source)``: a pull to ``out`` that ended inside the first shard; the bytes that it has."""

    def halt(source: str) -> int:
        original = stores.StoreAnswer.read

        def flaky(self: stores.StoreAnswer, size: int) -> bytes:
            if self.place >= 2 << 20 and not self.block:
                raise Refused("no more today")
            return original(self, size)

        with monkeypatch.context() as patch:
            patch.setattr(stores.StoreAnswer, "read", flaky)
            with pytest.raises(DatasetError, match="no more today"):
                pull(PullConfig(source=source, out=tmp_path / "out", limits=limits, jobs=1))
        return sum(path.stat().st_size for path in (tmp_path / "out" / ".genrep-pull").glob("*.beton"))

    return halt


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_a_pull_from_a_store_is_resumed_inside_a_shard(
    kind: str, small: Path, bucket: str, limits: Limits, same: Same, halted: Callable[[str], int], tmp_path: Path
) -> None:
    target = f"{bucket}/d" if kind == "s3" else f"memory://{tmp_path.name}"
    push(PushConfig(folder=small, target=target, limits=limits))
    here = halted(target)
    assert here >= 2 << 20
    report = pull(PullConfig(source=target, out=tmp_path / "out", limits=limits))
    assert report.fetched == read_manifest(small).num_bytes - here
    same(tmp_path / "out", small)


def test_a_store_that_answers_ranges_with_the_whole_is_read_from_the_start(
    small: Path, bucket: str, limits: Limits, same: Same, halted: Callable[[str], int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from s3fs import S3FileSystem

    push(PushConfig(folder=small, target=f"{bucket}/d", limits=limits))
    halted(f"{bucket}/d")
    original, ranges = S3FileSystem.call_s3, []

    def whole(self: Any, method: str, **options: Any) -> Any:
        ranges.append(options.pop("Range", None))
        return original(self, method, **options)

    monkeypatch.setattr(S3FileSystem, "call_s3", whole)
    report = pull(PullConfig(source=f"{bucket}/d", out=tmp_path / "out", limits=limits))
    assert any(ranges)
    assert report.fetched == read_manifest(small).num_bytes
    same(tmp_path / "out", small)


def test_a_shard_that_changes_before_it_is_read_is_not_mixed(
    small: Path, bucket: str, limits: Limits, same: Same, halted: Callable[[str], int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import boto3

    client = boto3.client("s3")
    where = {"Bucket": bucket.removeprefix("s3://"), "Key": "d/shard-00003.beton"}
    push(PushConfig(folder=small, target=f"{bucket}/d", limits=limits))
    data = (small / "shard-00003.beton").read_bytes()
    original, asked = stores.S3Answer._begin, []

    def replaced(self: stores.S3Answer) -> None:
        if self.path.endswith("shard-00003.beton"):
            asked.append(self.validator)
            client.put_object(**where, Body=data[::-1] if len(asked) == 1 else data)
        original(self)

    client.put_object(**where, Body=data[:-1] + b"!")
    monkeypatch.setattr(stores.S3Answer, "_begin", replaced)
    pull(PullConfig(source=f"{bucket}/d", out=tmp_path / "out", limits=limits))
    assert len(set(asked)) == len(asked) == 3  # each time it was another one than was asked for, but the last
    same(tmp_path / "out", small)


def test_a_bucket_that_is_not_there_is_one_line(small: Path, bucket: str, command: Command, tmp_path: Path) -> None:
    for arguments in (
        ("pull", "s3://nosuchbucket/d", "--out", tmp_path / "out"),
        ("push", small, "s3://nosuchbucket/d"),
    ):
        status, _, err = command(*arguments, "--retries", 0)
        assert status == 1
        assert "Error: genrep-manifest: s3://nosuchbucket/d: " in err
        assert "unexpected" not in err


@pytest.mark.parametrize(
    "arguments, extra",
    [
        (["pull", "s3://b/d", "--out", "out"], "fsspec gcsfs s3fs"),
        (["push", "DIR", "s3://b/d"], "fsspec gcsfs s3fs"),
        (["push", "DIR", "hf://datasets/org/name"], "huggingface_hub"),
    ],
)
def test_without_the_extra_its_packages_are_named(
    arguments: list[str], extra: str, small: Path, tmp_path: Path
) -> None:
    given = [str(small) if argument == "DIR" else argument for argument in arguments]
    lacking = f"""
import sys
sys.modules["s3fs"] = sys.modules["huggingface_hub"] = None
sys.argv = ["genrep-manifest", *{given!r}]
from genrep.datasets_manifest.cli import main
main()
"""
    run = subprocess.run([sys.executable, "-c", lacking], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert f"pip install {extra}" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


class Hub:
    """What the Hub keeps, behind huggingface_hub's own signatures."""

    def __init__(self, root: Path) -> None:
        from huggingface_hub import HfApi

        self.root, self.commits, self.private = root, [], None
        self.api = create_autospec(HfApi, instance=True)
        self.api.repo_exists.side_effect = lambda name, repo_type: root.exists()
        self.api.create_repo.side_effect = self.create
        self.api.list_repo_tree.side_effect = self.listed
        self.api.create_commit.side_effect = self.commit

    def create(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
        self.private = private
        self.root.mkdir(parents=True)
        (self.root / ".gitattributes").write_text("*.beton filter=lfs\n")

    def listed(self, name: str, *, path_in_repo: str | None, revision: str, repo_type: str) -> Any:
        from huggingface_hub.errors import EntryNotFoundError

        if path_in_repo and not (self.root / path_in_repo).exists():
            raise EntryNotFoundError("no such folder")
        for path in (self.root / (path_in_repo or "")).iterdir():
            data = path.read_bytes()
            sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            lfs = SimpleNamespace(sha256=hashlib.sha256(data).hexdigest()) if path.suffix == ".beton" else None
            yield SimpleNamespace(path=str(path.relative_to(self.root)), size=len(data), blob_id=sha1, lfs=lfs)

    def commit(self, name: str, operations: Any, *, commit_message: str, repo_type: str, revision: str) -> None:
        self.commits.append([operation.path_in_repo for operation in operations])
        for operation in operations:
            target = self.root / operation.path_in_repo
            target.parent.mkdir(exist_ok=True)
            shutil.copy(operation.path_or_fileobj, target)


@pytest.fixture
def hub(nginx_root: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> Any:
    www, port = nginx_root
    hub = Hub(www / "datasets" / "org" / "name" / "resolve" / "main")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub.api)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("genrep.datasets_manifest.transport.hub.COMMIT_FILES", 4)
    yield hub
    shutil.rmtree(www / "datasets")


def test_to_the_hub_in_commits_that_end_with_the_manifest_and_back(
    small: Path, hub: Any, command: Command, same: Same, tmp_path: Path
) -> None:
    status, _, err = command("push", small, "hf://datasets/org/name")
    assert status == 0
    assert (hub.private, "created as private" in err) == (True, True)
    shards = [[f"shard-0000{k}.{end}" for k in pair for end in ("beton", "json")] for pair in ((0, 1), (2, 3))]
    assert hub.commits == [*shards, ["recipe.json", "README.md", "manifest.json"]]
    assert command("pull", "hf://datasets/org/name", "--out", tmp_path / "out")[0] == 0
    same(tmp_path / "out", small)
    assert command("push", small, "hf://datasets/org/name@main/")[0] == 0
    assert len(hub.commits) == 3


def test_an_interrupted_push_to_a_folder_of_the_hub_goes_on(
    small: Path, hub: Any, limits: Limits, same: Same, tmp_path: Path
) -> None:
    failing = [0, 1, 1, 1, 1]

    def flaky(*options: Any, **more: Any) -> None:
        if failing and failing.pop(0):
            raise ConnectionError("reset by peer")
        hub.commit(*options, **more)

    hub.api.create_commit.side_effect = flaky
    config = PushConfig(folder=small, target="hf://datasets/org/name/sub", limits=limits)
    with pytest.raises(DatasetError, match="ConnectionError: reset by peer"):
        push(config)
    assert push(config).kept == 4
    pull(PullConfig(source=config.target, out=tmp_path / "out", limits=limits))
    same(tmp_path / "out", small)


def test_another_dataset_on_the_hub_is_not_written_over(small: Path, raw: Path, hub: Any, limits: Limits) -> None:
    push(PushConfig(folder=small, target="hf://datasets/org/name", limits=limits))
    with pytest.raises(ResumeError, match="another dataset is there"):
        push(PushConfig(folder=raw, target="hf://datasets/org/name", limits=limits))
    assert len(hub.commits) == 3


def test_the_hubs_advice_on_sizes_and_counts(entries: Callable[..., Any]) -> None:
    def asked(size: int, files: int) -> list[str]:
        return check_advice(SimpleNamespace(shards=[SimpleNamespace(bytes=size)], tables=[]), files)  # type: ignore[arg-type]

    assert asked(20 * 10**9, 10_000) == []
    assert asked(20 * 10**9 + 1, 10) == ["a shard of 20000000001 bytes: the Hub advises at most 20000000000"]
    with pytest.raises(DatasetError, match="the Hub takes 50000000000 per file; build it with another shard_size"):
        asked(50 * 10**9 + 1, 10)
    with pytest.raises(DatasetError, match="the Hub takes 10000 per folder"):
        asked(1, 10_001)


def test_tables_of_rows_go_to_the_hub_with_the_manifest_and_never_over_others(
    prompted: Path, hub: Any, limits: Limits, same: Same, tmp_path: Path
) -> None:
    config = PushConfig(folder=prompted, target="hf://datasets/org/name", limits=limits)
    push(config)
    assert hub.commits[-1] == ["prompts.jsonl", "manifest.json"]
    pull(PullConfig(source=config.target, out=tmp_path / "out", limits=limits))
    same(tmp_path / "out", prompted)
    assert push(config).kept == 6
    there = hub.root / "prompts.jsonl"
    there.write_bytes(there.read_bytes().replace(b"a cat", b"a dog"))
    with pytest.raises(ResumeError, match=r"another dataset is there: its prompts\.jsonl differs"):
        push(config)
