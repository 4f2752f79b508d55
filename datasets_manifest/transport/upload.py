"""Send a dataset folder to an object store, or another place that fsspec can write to.

A shard's record is sent after the shard, so a record there vouches for its shard: what an interrupted push left is told
from what is still to come without reading the store's shards again.

In S3 stores a shard goes on inside, from the parts that an interrupted upload left there. Amazon S3's multipart upload:
nothing appears under a name before CompleteMultipartUpload, and what was sent stays until then, or until the bucket's rule for
incomplete uploads removes it. A part's ETag is the MD5 of its bytes, which tells whether it is ours; where it is not (buckets
that encrypt with keys of KMS or the client) no part is believed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from genrep.errors import DatasetError, ResumeError
from genrep.net import Limits, Lost, Missing, Refused, Stop, persist, shown
from genrep.progress import Progress
from genrep.untrusted import one_line, open_regular

from ..manifest import MANIFEST_NAME, Manifest, Shard
from .stores import asked, open_store, scheme_of, speaks_s3
from .table_files import File, TableFile

PART = 16 << 20  # bytes; S3 takes 5 MiB to 5 GiB, the last part may be less
MAX_PARTS = 10_000


class MultipartUpload:
    """An upload of one file, begun or found again. Methods raise Missing, Refused or Lost."""

    def __init__(self, system: Any, path: str, descriptor: int, size: int) -> None:
        """Take up an upload of ``path``, or begin one; those that hold nothing of the file are aborted.

        Args:
            system: a filesystem of s3fs's.
            path: ``bucket/key``.
            descriptor: of the local file.
            size: its bytes.
        """
        bucket, key, _ = system.split_path(path)
        self.system, self.path, self.descriptor = system, path, descriptor
        self.target = {"Bucket": bucket, "Key": key}
        self.length = max(PART, -(-size // MAX_PARTS))
        self.count = -(-size // self.length)
        self.kept: dict[int, str] = {}  # ETags of the parts that were there
        self.tags: dict[int, str] = {}  # of all that are there now
        self.digest = hashlib.sha256()  # of the file, part by part
        self.id = self._found() or self._begun()

    def parts(self) -> Iterator[tuple[int, bool]]:
        """Send what is not there yet, part by part; gives a part's bytes, and whether it had to be sent."""
        for number in range(1, self.count + 1):
            data = self._data(number)
            self.digest.update(data)
            there = number in self.kept
            self.tags[number] = self.kept[number] if there else self._send(number, data)
            yield len(data), not there

    def complete(self) -> None:
        """Give the file its name."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in self.tags.items()]
        self._call("complete_multipart_upload", MultipartUpload={"Parts": parts})
        self.system.invalidate_cache(self.path)

    def abort(self) -> None:
        """Abort the upload and remove its parts, as far as the store allows."""
        self._abort(self.id)

    def _send(self, number: int, data: bytes) -> str:
        return str(self._call("upload_part", PartNumber=number, Body=data)["ETag"])

    def _found(self) -> str | None:
        """The upload of this very key that holds most of the file; the others are aborted."""
        bucket, key = self.target["Bucket"], self.target["Key"]
        try:  # the key itself is the first of those that it begins: one page is enough
            answer = self._ask("list_multipart_uploads", Bucket=bucket, Prefix=key)
        except Refused:  # who may write need not be allowed to list
            return None
        found = [entry["UploadId"] for entry in answer.get("Uploads") or () if entry["Key"] == key]
        right = {upload: self._right(upload) for upload in found}
        best = max(right, key=lambda upload: len(right[upload]), default=None)
        for upload in found:
            if upload != best or not right[upload]:
                self._abort(upload)
        if best is None or not right[best]:
            return None
        self.kept = right[best]
        return str(best)

    def _right(self, upload: str) -> dict[int, str]:
        """ETags of an upload's parts that are what the file has at their places."""
        right = {}
        with suppress(Refused):
            for number, size, tag in self._listed(upload):
                if 1 <= number <= self.count and size <= self.length:
                    data = self._data(number)
                    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
                    if (size, tag.strip('"')) == (len(data), md5):
                        right[number] = tag
        return right

    def _listed(self, upload: str) -> Iterator[tuple[int, int, str]]:
        """Number, bytes and ETag of an upload's parts."""
        marker = 0
        while True:
            answer = self._ask("list_parts", **self.target, UploadId=upload, PartNumberMarker=marker)
            for part in answer.get("Parts") or ():
                yield int(part["PartNumber"]), int(part["Size"]), str(part["ETag"])
            following = int(answer.get("NextPartNumberMarker") or 0)
            if not answer.get("IsTruncated") or following <= marker:
                return
            marker = following

    def _begun(self) -> str:
        return str(self._ask("create_multipart_upload", **self.target)["UploadId"])

    def _abort(self, upload: str) -> None:
        with suppress(Refused, Lost):
            self._ask("abort_multipart_upload", **self.target, UploadId=upload)

    def _data(self, number: int) -> bytes:
        return os.pread(self.descriptor, self.length, (number - 1) * self.length)

    def _call(self, method: str, **options: Any) -> Any:
        """Make a request about this upload."""
        try:
            return self._ask(method, **self.target, UploadId=self.id, **options)
        except Missing:
            raise Lost("somebody else ended the upload") from None

    def _ask(self, method: str, **options: Any) -> Any:
        return asked(lambda: self.system.call_s3(method, **options))


BLOCK = 16 << 20  # bytes of one part of an upload
AT_ONCE = 256  # small files asked for together
# Where a file that is being written is not there before it is whole. Elsewhere it is written under another name.
ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}


def push_to_store(
    folder: Path, manifest: Manifest, names: Sequence[str], url: str, *, jobs: int, limits: Limits
) -> tuple[int, int]:
    """Send ``names``, the manifest last; returns the bytes that were sent and the shards that were there.

    Raises DatasetError, and ResumeError where another dataset is.
    """
    push = _Push(folder, url, limits)
    try:
        there = persist(push.listed, limits, push.stop)
        shards = push.open_shards(manifest, there)
        tables = [table for table in TableFile.all_of(manifest) if not push.has_table(table, there)]
        files: list[File] = [*tables, *shards]
        total = sum(file.bytes for file in files)
        with Progress(total, "byte", "pushing") as push.progress, ThreadPoolExecutor(jobs) as threads:
            begun = [threads.submit(push.shard, file) for file in files]
            try:
                wait(begun, return_when=FIRST_EXCEPTION)
                for future in begun:
                    if future.done():
                        future.result()
            except BaseException:
                push.stop.set()
                threads.shutdown(cancel_futures=True)
                raise
        beside = {name for shard in manifest.shards for name in (shard.name, shard.record_name)}
        beside |= {table["name"] for table in manifest.tables}
        for name in names:
            if name not in beside:
                push.small(name)
    except (Refused, Lost) as error:
        raise DatasetError(f"{shown(url)}: {error}") from None
    return push.sent, len(manifest.shards) - len(shards)


class _Push:
    """A place in a store that is written to."""

    def __init__(self, folder: Path, url: str, limits: Limits) -> None:
        self.folder, self.where, self.limits = folder, shown(url), limits
        self.system, self.root = open_store(url)
        self.atomic = scheme_of(url) in ATOMIC
        self.stop = Stop()
        self.sent = 0  # bytes
        self.progress: Progress | None = None
        self._telling = threading.Lock()

    def listed(self) -> dict[str, int]:
        """The sizes of the files that are there."""
        if not self.atomic:
            asked(lambda: self.system.makedirs(self.root, exist_ok=True))
        try:
            entries = asked(lambda: self.system.ls(self.root, detail=True))
        except Missing:
            return {}
        return {entry["name"].rpartition("/")[2]: int(entry["size"] or 0) for entry in entries}

    def open_shards(self, manifest: Manifest, there: dict[str, int]) -> list[Shard]:
        """The shards that are still to be sent. Raises ResumeError if what is there belongs to another dataset."""
        known = [name for name in there if name == MANIFEST_NAME or (name[:6], name[-5:]) == ("shard-", ".json")]
        names = {shard.record_name for shard in manifest.shards} | {MANIFEST_NAME}
        for name in known:
            if name not in names or there[name] != (self.folder / name).stat().st_size:
                raise self._other(name)
        for start in range(0, len(known), AT_ONCE):
            paths = [f"{self.root}/{name}" for name in known[start : start + AT_ONCE]]
            for path, data in self._read(paths).items():
                if data != (self.folder / path.rpartition("/")[2]).read_bytes():
                    raise self._other(path.rpartition("/")[2])
        done = {shard.name for shard in manifest.shards if shard.record_name in known}
        return [shard for shard in manifest.shards if shard.name not in done or there.get(shard.name) != shard.bytes]

    def has_table(self, table: TableFile, there: dict[str, int]) -> bool:
        """Whether a table is there already. No record vouches for it, so it is read again unless the manifest is there."""
        if there.get(table.name) != table.bytes:
            return False
        return (
            MANIFEST_NAME in there or persist(lambda: self._sha256(table.name), self.limits, self.stop) == table.sha256
        )

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        file = asked(lambda: self.system.open(f"{self.root}/{name}", "rb", block_size=BLOCK))
        try:
            while data := asked(lambda: file.read(BLOCK)):
                self.stop.check()
                digest.update(data)
        finally:
            file.close()
        return digest.hexdigest()

    def _read(self, paths: list[str]) -> dict[str, bytes]:
        found = persist(lambda: asked(lambda: self.system.cat(paths)), self.limits, self.stop)
        return found if isinstance(found, dict) else {paths[0]: found}

    def _other(self, name: str) -> ResumeError:
        return ResumeError(f"{self.where}: another dataset is there: its {one_line(name)} differs; remove it first")

    def shard(self, shard: File) -> None:
        """Send a shard, then its record; or a table, which has none."""
        in_parts = speaks_s3(self.system) and shard.bytes > PART
        send = self._send_parts if in_parts else self._send_shard
        persist(lambda: send(shard), self.limits, self.stop)
        if isinstance(shard, Shard):
            self.small(shard.record_name)

    def small(self, name: str) -> None:
        """Send one of the other files."""
        persist(lambda: self._send(name, None), self.limits, self.stop)

    def _send_shard(self, shard: File) -> None:
        self._send(shard.name, shard)

    def _send_parts(self, shard: File) -> None:
        """Keep what was sent in the store, unless it is not the manifest's shard."""
        told, path = 0, f"{self.root}/{shard.name}"
        descriptor = open_regular(self.folder / shard.name)
        try:
            upload = MultipartUpload(self.system, path, descriptor, shard.bytes)
            self.stop.check()
            for count, came in upload.parts():
                self._tell(count, shard, sent=count if came else 0)
                told += count
                self.stop.check()
            try:
                self._check(shard, upload.digest.hexdigest())
            except DatasetError:
                upload.abort()
                raise
            upload.complete()
            self._check_size(path, shard.name, shard.bytes)
        except BaseException:
            self._tell(-told, shard)
            raise
        finally:
            os.close(descriptor)

    def _check(self, shard: File, found: str) -> None:
        if found != shard.sha256:
            raise DatasetError(f"{self.folder / shard.name}: its sha256 is {found}, the manifest says {shard.sha256}")

    def _check_size(self, path: str, name: str, size: int) -> None:
        found = asked(lambda: self.system.info(path)["size"])
        if found != size:
            raise Lost(f"{name} has {found} bytes there, {size} were sent")

    def _send(self, name: str, shard: File | None) -> None:
        final = f"{self.root}/{name}"
        target = final if self.atomic else f"{self.root}/.{name}.tmp"
        descriptor = open_regular(self.folder / name)
        count = 0
        try:
            file = asked(lambda: self.system.open(target, "wb", block_size=BLOCK))
            try:
                digest = hashlib.sha256()
                while data := os.read(descriptor, BLOCK):
                    self.stop.check()
                    digest.update(data)
                    asked(lambda: file.write(data))
                    count += len(data)
                    self._tell(len(data), shard)
                if shard is not None:
                    self._check(shard, digest.hexdigest())
                asked(file.close)
            except BaseException:
                self._abandon(file, target)
                self._tell(-count, shard)
                raise
        finally:
            os.close(descriptor)
        if not self.atomic:
            asked(lambda: self._rename(target, final))
        self._check_size(final, name, count)
        self._tell(0, None, sent=count)

    def _tell(self, count: int, shard: File | None, *, sent: int = 0) -> None:
        with self._telling:
            self.sent += sent
            if shard is not None and self.progress is not None:
                self.progress.update(count)

    def _rename(self, target: str, final: str) -> None:
        if self.system.exists(final):
            self.system.rm_file(final)
        self.system.mv(target, final)

    def _abandon(self, file: Any, target: str) -> None:
        """Discard a file: closing it would publish a part."""
        with suppress(Exception):
            if hasattr(file, "discard"):
                file.discard()
                file.closed = True
            else:
                file.close()
        if not self.atomic:
            with suppress(Exception):
                self.system.rm_file(target)
