"""A large file to an S3 store in parts, on from the parts that an interrupted upload left there.

Amazon S3's multipart upload: nothing appears under a name before CompleteMultipartUpload, and what was sent stays until
then, or until the bucket's rule for incomplete uploads removes it. A part's ETag is the MD5 of its bytes, which tells
whether it is ours; where it is not (buckets that encrypt with keys of KMS or the client) no part is believed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from genrep.net import Lost, Missing, Refused

from .stores import asked

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
        """Leave nothing of it, as far as the store allows."""
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
        """Something with this upload."""
        try:
            return self._ask(method, **self.target, UploadId=self.id, **options)
        except Missing:
            raise Lost("the upload was ended by somebody else") from None

    def _ask(self, method: str, **options: Any) -> Any:
        return asked(lambda: self.system.call_s3(method, **options))
