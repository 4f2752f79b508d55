"""The bytes of a download, in as many attempts as get further."""

from __future__ import annotations

import http.client
import re
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace

from genrep.progress import Progress

from .http import Lost, RangeRefused, Refused, judge, request
from .part import Notes, Part

ATTEMPTS = 5  # in a row that get no further
BACKOFF = 1.0  # seconds before the second attempt; doubles with each
CHUNK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)", re.IGNORECASE)
_IS_PAGE = "it sent a web page instead of the file: a login, a licence to accept, or a page that asks again"


def transfer(url: str, part: Part, *, label: str | None) -> int:
    """Fill ``part`` with what is at ``url``; ``label`` is that of the progress bar, None for none.

    Returns how many bytes of an earlier run were of use. Raises Refused or Lost (the last attempt's) and OSError.
    """
    furthest, failures, connected, resumed = part.size, 0, False, None
    while True:
        try:
            start = _attempt(url, part, label)
            resumed = start if resumed is None else min(start, resumed)
            if _PAGE.match(part.head(512)):
                part.forget()
                raise Refused(_IS_PAGE)
            return resumed
        except Lost as error:
            if isinstance(error, RangeRefused):
                part.forget()
            connected = connected or not error.unreachable
            failures = 1 if part.size >= furthest + CHUNK else failures + 1
            furthest = max(furthest, part.size)
            if failures >= ATTEMPTS or not connected:  # nobody waits a minute to hear that there is no network
                raise
            if error.start is not None:
                resumed = error.start if resumed is None else min(error.start, resumed)
        time.sleep(BACKOFF * 2 ** (failures - 1))


def _attempt(url: str, part: Part, label: str | None) -> int:
    """One request; returns the byte that its answer began with."""
    notes = part.notes()
    if notes is None or notes.url != url or notes.validator is None:
        part.forget()
    elif notes.total == part.size:  # an earlier run was killed between the last byte and the name
        return part.size
    offset = part.size
    answer = request(url, offset, notes.validator if notes else None)
    with answer:
        start, fresh = _begin(url, answer, offset, notes)
        part.cut(start)
        part.note(fresh)
        if fresh.total is not None and fresh.total - start > (free := shutil.disk_usage(part.path.parent).free):
            raise Refused(f"its {fresh.total} bytes do not fit the disk, which has {free} left")
        try:
            _receive(answer, part, fresh.total, label)
        except Lost as error:
            error.start = start
            raise
    return start


def _begin(url: str, answer: http.client.HTTPResponse, offset: int, notes: Notes | None) -> tuple[int, Notes]:
    """The first byte of what comes, and what it is of. Raises Refused or Lost."""
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    if etag is not None and not etag.startswith('"'):
        etag = None  # a weak one does not tell bytes apart
    if answer.status == 206 and offset and notes:
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        total = int(found[2]) if found and found[2] != "*" else notes.total
        if not found or int(found[1]) != offset or notes.total not in (None, total) or (etag and etag != notes.etag):
            raise RangeRefused("the server sent another part than asked for")
        return offset, replace(notes, total=total)
    if answer.status != 200:
        raise Refused(f"the server answers {answer.status}")
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise Refused(_IS_PAGE)
    return 0, Notes(url=url, etag=etag, modified=modified, total=answer.length)


def _receive(answer: http.client.HTTPResponse, part: Part, total: int | None, label: str | None) -> None:
    """Write what comes. Raises Lost if it ends early."""
    size = part.size
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(total or 0, "byte", label, initial=size)) if label else None
        while total is None or size < total:
            try:
                data = answer.read1(CHUNK if total is None else min(CHUNK, total - size))
            except ValueError:
                raise Lost("its answer is garbled") from None
            except (http.client.HTTPException, OSError) as error:
                raise judge(error) from None
            if not data:
                break
            part.write(data)
            size += len(data)
            if bar is not None:
                bar.update(len(data))
    if total is not None and size < total:
        raise Lost(f"the connection ended after {size} of {total} bytes")
