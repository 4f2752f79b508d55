"""The bytes of a download, in as many attempts as get further."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from dataclasses import replace

from genrep.net import HttpAnswer, HttpSource, Limits, Lost, Patience, RangeRefused, Refused, Stop
from genrep.progress import Progress

from .part import Notes, Part

LIMITS = Limits(timeout=30.0, retries=4)
MAX_BYTES = 64 << 30  # of a weights file; the largest published networks have a tenth
CHUNK = 1 << 20
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)", re.IGNORECASE)
_IS_PAGE = "it sent a web page instead of the file: a login, a licence to accept, or a page that asks again"


def transfer(url: str, part: Part, *, label: str | None) -> int:
    """Fill ``part`` with what is at ``url``; ``label`` is that of the progress bar, None for none.

    Returns how many bytes of an earlier run were of use. Raises Refused or Lost (the last attempt's) and OSError.
    """
    return _Transfer(url, part, label).run()


class _Transfer:
    def __init__(self, url: str, part: Part, label: str | None) -> None:
        self.url, self.part, self.label = url, part, label
        self.source = HttpSource(url, LIMITS, Stop())
        self.resumed: int | None = None  # least byte that an answer began with

    def run(self) -> int:
        patience, connected = Patience(LIMITS, self.source.stop), False
        patience.furthest = self.part.size
        while True:
            try:
                self._attempt()
            except Lost as error:
                if isinstance(error, RangeRefused):
                    self.part.forget()
                connected = connected or not error.unreachable
                if not connected:  # nobody waits a minute to hear that there is no network
                    raise
                patience.again(error, self.part.size)
                continue
            if _PAGE.match(self.part.head(512)):
                self.part.forget()
                raise Refused(_IS_PAGE)
            return self.resumed or 0

    def _attempt(self) -> None:
        """One request."""
        part, notes = self.part, self.part.notes()
        if notes is None or notes.url != self.url or notes.validator is None:
            part.forget()
        elif notes.total == part.size:  # an earlier run was killed between the last byte and the name
            self._began(part.size)
            return
        offset = part.size
        answer = self.source.open(None, offset, notes.validator if notes else None)
        try:
            fresh = _notes(self.url, answer, notes)
            part.cut(answer.start)
            part.note(fresh)
            self._began(answer.start)
            _check_size(fresh.total, answer.start, part)
            self._receive(answer, fresh.total)
        finally:
            answer.close()

    def _began(self, start: int) -> None:
        self.resumed = start if self.resumed is None else min(start, self.resumed)

    def _receive(self, answer: HttpAnswer, total: int | None) -> None:
        """Write what comes. Raises Lost if it ends early, Refused if it does not end."""
        size = self.part.size
        with ExitStack() as stack:
            bar = stack.enter_context(Progress(total or 0, "byte", self.label, initial=size)) if self.label else None
            while total is None or size < total:
                data = answer.read(CHUNK if total is None else min(CHUNK, total - size))
                if not data:
                    break
                self.part.write(data)
                size += len(data)
                if size > MAX_BYTES:
                    self.part.forget()
                    raise Refused(f"it sends more than {MAX_BYTES:,} bytes, more than weights have")
                if bar is not None:
                    bar.update(len(data))
        if total is not None and size < total:
            raise Lost(f"the connection ended after {size} of {total} bytes")


def _notes(url: str, answer: HttpAnswer, notes: Notes | None) -> Notes:
    """What comes is of. Raises RangeRefused for the rest of another file than the one that was begun."""
    if answer.start == 0 or notes is None:
        return Notes(url=url, etag=answer.etag, modified=answer.modified, total=answer.total)
    total = notes.total if answer.total is None else answer.total
    if notes.total not in (None, total) or (answer.etag and answer.etag != notes.etag):
        raise RangeRefused("the server sends the rest of another file")
    return replace(notes, total=total)


def _check_size(total: int | None, start: int, part: Part) -> None:
    if total is None:
        return
    if total - start > (free := shutil.disk_usage(part.path.parent).free):
        raise Refused(f"its {total} bytes do not fit the disk, which has {free} left")
    if total > MAX_BYTES:
        raise Refused(f"it has {total:,} bytes, more than the {MAX_BYTES:,} that weights may have")
