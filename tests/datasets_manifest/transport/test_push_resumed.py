"""``push`` to an S3 server goes on inside a shard: from the parts that a killed push left, and from nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest.transport import Limits, PullConfig, PushConfig, pull, push
from genrep.datasets_manifest.transport import upload as uploading
from genrep.errors import DatasetError
from genrep.net import Refused

PART = 5 << 20  # the smallest that S3 takes
SHARD = 16 << 20  # and a little more: four parts
PUSH = f"""
import sys
from pathlib import Path
from genrep.datasets_manifest.transport import Limits, PushConfig, push, upload
upload.PART = {PART}
report = push(PushConfig(folder=Path(sys.argv[1]), target=sys.argv[2], jobs=2, limits=Limits(backoff=0.02)))
print(report.sent, report.kept)
"""
Same = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def thick(builder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three shards of four parts; never modified."""
    folder = builder(tmp_path_factory.mktemp("thick") / "shards", 3, page=SHARD // 2)
    yield folder
    shutil.rmtree(folder)


class Bucket:
    """What lies in a bucket, and unfinished in it."""

    def __init__(self, url: str) -> None:
        import boto3

        self.client, self.name, self.url = boto3.client("s3"), url.removeprefix("s3://"), f"{url}/d"

    def uploads(self) -> list[tuple[str, str]]:
        """Key and id of the unfinished uploads."""
        listed = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [(entry["Key"], entry["UploadId"]) for entry in listed]

    def parts(self) -> int:
        """Bytes of their parts."""
        lists = [self.client.list_parts(Bucket=self.name, Key=key, UploadId=upload) for key, upload in self.uploads()]
        return sum(part["Size"] for listed in lists for part in listed.get("Parts", []))

    def begin(self, name: str, parts: dict[int, bytes]) -> tuple[str, str]:
        """An unfinished upload."""
        where = {"Bucket": self.name, "Key": f"d/{name}"}
        upload = self.client.create_multipart_upload(**where)["UploadId"]
        for number, data in parts.items():
            self.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=data)
        return where["Key"], upload


@pytest.fixture
def store(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty one, for parts of 5 MiB."""
    monkeypatch.setattr(uploading, "PART", PART)
    return Bucket(bucket)


@pytest.fixture
def arrived(store: Bucket, same: Same, limits: Limits, tmp_path: Path) -> Callable[[Path], None]:
    """``arrived(folder)``: the store has it, byte for byte, with nothing unfinished."""

    def compare(folder: Path) -> None:
        pull(PullConfig(source=store.url, out=tmp_path / "back", limits=limits))
        same(tmp_path / "back", folder)
        assert store.uploads() == []

    return compare


def pieces(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[start : start + PART] for start in range(0, len(data), PART)]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.slow
def test_killed_inside_shards_it_sends_the_second_time_only_what_is_not_there(
    thick: Path, store: Bucket, store_proxy: Any, arrived: Callable[[Path], None]
) -> None:
    through = {**os.environ, "AWS_ENDPOINT_URL": store_proxy.url}
    call = [sys.executable, "-c", PUSH, str(thick), store.url]
    whole = 3  # parts go through, of two shards in whatever order; never all of one, which would end its upload
    store_proxy.most = whole * PART + (PART >> 4)
    assert store_proxy.most < SHARD
    first = subprocess.Popen(call, env=through, stderr=subprocess.PIPE)
    started = time.monotonic()
    while store_proxy.taken <= store_proxy.most:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < started + 60
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    first.communicate()
    there = store.parts()
    assert {key for key, _ in store.uploads()} == {"d/shard-00000.beton", "d/shard-00001.beton"}
    assert (whole - 2) * PART <= there <= whole * PART  # two were under way
    store_proxy.most, before = float("inf"), store_proxy.taken
    second = subprocess.run(call, env=through, capture_output=True, text=True, check=True)
    assert second.stdout == f"{size(thick) - there} 0\n"
    assert size(thick) - there <= store_proxy.taken - before <= size(thick) - there + 100_000  # of headers
    arrived(thick)


@pytest.mark.slow
def test_a_part_that_is_not_the_files_is_sent_again(
    thick: Path, store: Bucket, limits: Limits, arrived: Callable[[Path], None]
) -> None:
    right = pieces(thick / "shard-00001.beton")
    store.begin("shard-00001.beton", {1: right[0]})  # of two, the one that has more is taken
    store.begin("shard-00001.beton", {1: right[0], 2: right[1][:-1] + b"?", 4: right[3]})
    report = push(PushConfig(folder=thick, target=store.url, limits=limits))
    assert report.sent == size(thick) - len(right[0]) - len(right[3])
    arrived(thick)


@pytest.mark.slow
def test_an_upload_of_something_else_is_never_completed(
    thick: Path, store: Bucket, limits: Limits, arrived: Callable[[Path], None]
) -> None:
    right = pieces(thick / "shard-00000.beton")
    store.begin("shard-00000.beton", dict(enumerate(pieces(thick / "shard-00002.beton"), 1)))
    store.begin("shard-00000.beton", {1: right[1], 2: right[2], 3: right[0][:-1], 9: right[0]})
    store.begin("shard-00000.beton", {})
    key, upload = store.begin("shard-00000.beton.of-others", {1: right[0]})
    assert push(PushConfig(folder=thick, target=store.url, limits=limits)).sent == size(thick)
    assert store.uploads() == [(key, upload)]
    store.client.abort_multipart_upload(Bucket=store.name, Key=key, UploadId=upload)
    arrived(thick)


@pytest.mark.slow
def test_of_a_damaged_shard_nothing_is_kept(thick: Path, store: Bucket, limits: Limits, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(thick, tmp_path / "damaged"))
    with (damaged / "shard-00002.beton").open("r+b") as file:
        file.seek(12 << 20)
        file.write(b"damage")
    with pytest.raises(DatasetError, match=r"shard-00002.beton: its sha256 is .*, the manifest says"):
        push(PushConfig(folder=damaged, target=store.url, limits=limits, jobs=1))
    assert store.uploads() == []
    listed = store.client.list_objects_v2(Bucket=store.name)["Contents"]
    assert {entry["Key"] for entry in listed} == {f"d/shard-0000{k}.{end}" for k in (0, 1) for end in ("beton", "json")}


@pytest.mark.slow
def test_what_an_error_interrupts_is_kept(
    thick: Path, store: Bucket, limits: Limits, arrived: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = uploading.MultipartUpload._send, []

    def failing(self: Any, number: int, data: bytes) -> str:
        calls.append(number)
        if len(calls) == 3:
            raise Refused("no more today")
        return original(self, number, data)

    monkeypatch.setattr(uploading.MultipartUpload, "_send", failing)
    with pytest.raises(DatasetError, match="no more today"):
        push(PushConfig(folder=thick, target=store.url, limits=limits, jobs=1))
    there = store.parts()
    assert there >= 2 * PART
    assert push(PushConfig(folder=thick, target=store.url, limits=limits)).sent == size(thick) - there
    arrived(thick)


@pytest.mark.slow
def test_uploads_that_one_may_not_list_or_that_others_end_are_begun_anew(
    thick: Path, store: Bucket, limits: Limits, arrived: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, ended = uploading.MultipartUpload._ask, []

    def answer(self: Any, method: str, **options: Any) -> Any:
        if method == "list_multipart_uploads":
            raise Refused("Access Denied")
        if options.get("PartNumber") == 4 and not ended:
            ended.append(options["UploadId"])
            original(self, "abort_multipart_upload", **self.target, UploadId=self.id)
            method = "list_parts"  # S3 says NoSuchUpload of any request, this server only of this one
            options = {**self.target, "UploadId": self.id}
        return original(self, method, **options)

    monkeypatch.setattr(uploading.MultipartUpload, "_ask", answer)
    sent = push(PushConfig(folder=thick, target=store.url, limits=limits, jobs=1)).sent
    assert sent == size(thick) + 3 * PART
    arrived(thick)


def test_shards_of_more_parts_than_a_store_lists_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(2500)
    (tmp_path / "file").write_bytes(data)
    monkeypatch.setattr(uploading, "PART", 1)
    store = Paged(data)
    with (tmp_path / "file").open("rb") as file:
        upload = uploading.MultipartUpload(store, "b/k", file.fileno(), 2500)
        assert sum(came for _, came in upload.parts()) == 3
        assert (upload.id, store.got) == ("only", {1: data[:1], 1001: data[1000:1001], 2500: data[2499:]})
        assert upload.digest.digest() == hashlib.sha256(data).digest()
        monkeypatch.setattr(uploading, "MAX_PARTS", 1000)
        assert uploading.MultipartUpload(store, "b/k", file.fileno(), 2500).length == 3


class Paged:
    """A store that lists a thousand parts at a time."""

    def __init__(self, data: bytes) -> None:
        tags = {number: hashlib.md5(data[number - 1 : number]).hexdigest() for number in range(1, len(data) + 1)}
        self.parts = [
            {"PartNumber": number, "Size": 1, "ETag": f'"{tag}"'}
            for number, tag in tags.items()
            if number not in (1, 1001, 2500)
        ]
        self.got: dict[int, bytes] = {}

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, key = path.split("/")
        return bucket, key, None

    def call_s3(self, method: str, **options: Any) -> dict[str, Any]:
        if method == "list_multipart_uploads":
            return {"Uploads": [{"Key": "k", "UploadId": "only"}]}
        if method == "list_parts":
            rest = [part for part in self.parts if part["PartNumber"] > options["PartNumberMarker"]]
            last = rest[:1000][-1]["PartNumber"]
            return {"Parts": rest[:1000], "IsTruncated": len(rest) > 1000, "NextPartNumberMarker": last}
        if method == "upload_part":
            self.got[options["PartNumber"]] = options["Body"]
        return {"UploadId": "new", "ETag": '"new"'}
