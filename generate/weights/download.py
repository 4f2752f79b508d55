"""Downloads that survive a bad network, a kill and a second process, and are whole or absent.

A partial download is a hidden file beside its target, locked by its writer, with notes of its source. ``.NAME.part`` and
``.NAME.part.json`` (address, ETag, date, length) outlive a kill, for the next run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from genrep.errors import WeightsError
from genrep.files import fsync_folder
from genrep.net import SCHEMES, HttpAnswer, HttpFolder, Limits, Lost, Patience, RangeRefused, Refused, Stop, shown
from genrep.progress import Progress, note
from genrep.untrusted import read_object

from .cache import digest_file, publish

POLL = 0.2  # seconds between looks at another process's download
STALLED = 300.0  # seconds after which a download of another process that does not grow is given up


@dataclass(frozen=True, kw_only=True)
class Notes:
    """The source of a part."""

    url: str
    etag: str | None  # a strong one
    modified: str | None  # the server's date
    total: int | None  # bytes of the whole file

    @property
    def validator(self) -> str | None:
        """For If-Range: the value that identifies the file's content."""
        return self.etag or self.modified


class PartFile:
    """An open part file. Its methods raise OSError."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    @staticmethod
    def place(target: Path) -> Path:
        """The path of the part of a file."""
        return target.with_name(f".{target.name}.part")

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def cut(self, size: int) -> None:
        """Keep only the first bytes, and write on from there."""
        os.ftruncate(self.descriptor, size)
        os.lseek(self.descriptor, size, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        return os.pread(self.descriptor, size, 0)

    def note(self, notes: Notes) -> None:
        """Write down the source of the part."""
        publish(_notes_beside(self.path), json.dumps(asdict(notes)).encode())

    def notes(self) -> Notes | None:
        """The notes of an earlier run; None if they are missing or damaged."""
        try:
            notes = Notes(**read_object(_notes_beside(self.path), WeightsError))
        except (WeightsError, TypeError):
            return None
        texts = (notes.url, notes.etag, notes.modified)
        return notes if all(text is None or isinstance(text, str) for text in texts) else None

    def forget(self) -> None:
        """Forget the source, so that nobody resumes this part."""
        _notes_beside(self.path).unlink(missing_ok=True)
        self.cut(0)

    def discard(self) -> None:
        """Remove the part and its notes."""
        _discard(self.path)


@contextmanager
def open_part(target: Path, *, tell: bool) -> Iterator[PartFile | None]:
    """Lock the download of ``target``; yields None once the file is there, perhaps after waiting for another process.

    Raises OSError, or WeightsError if the other process gets nowhere.
    """
    path = PartFile.place(target)
    size, since = -1, time.monotonic()
    while not os.path.exists(target):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if _lock(descriptor):
                if os.path.exists(target):
                    _discard(path)
                elif _is_still(path, descriptor):  # neither renamed nor removed by the one who had it before
                    yield PartFile(path, descriptor)
                    return
                continue
            if os.fstat(descriptor).st_size != size:
                size, since = os.fstat(descriptor).st_size, time.monotonic()
        finally:
            os.close(descriptor)
        if time.monotonic() - since > STALLED:
            raise WeightsError(
                f"weights {target}: another process is downloading it but has received nothing for {STALLED:g} s"
            )
        if tell:
            note(f"{target.name}: another process is downloading it; waiting")
            tell = False
        time.sleep(POLL)
    yield None


def _notes_beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _discard(path: Path) -> None:
    for leftover in (path, _notes_beside(path)):
        leftover.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a filesystem without locks
        return True
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


LIMITS = Limits(timeout=30.0, retries=4)
MAX_BYTES = 64 << 30  # of a weights file; the largest published networks have a tenth
CHUNK = 1 << 20
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)", re.IGNORECASE)
_IS_PAGE = "it sent a web page instead of the file: a login, a licence to accept, or a page that asks again"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # a part that is of no use there only keeps the disk full


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """The facts of a file that is there."""

    sha256: str
    bytes: int
    url: str
    resumed_from: int  # bytes of an earlier run that were of use; 0 if there were none, or the file was there


def is_url(text: object) -> bool:
    """Whether a text is an address that ``download`` accepts."""
    return isinstance(text, str) and text.partition("://")[0].lower() in SCHEMES


def file_name(url: str) -> str:
    """The name under which an address publishes its file. Raises WeightsError if that cannot be a file's name here."""
    try:
        name = unquote(urlsplit(url).path.rpartition("/")[2], errors="strict")
    except ValueError:
        name = ""
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name.encode()) > 200:
        raise WeightsError(f"weights {shown(url)}: the address does not end in a file name")
    return name


def check_digest(sha256: str | None) -> str | None:
    """A published sha256 in lower case. Raises WeightsError unless it is 64 hex digits, or at least the first 8."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", str(sha256)):
        raise WeightsError(f"weights: sha256 = {sha256!r}; wanted 64 hex digits, or at least the first 8")
    return None if sha256 is None else str(sha256).lower()


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    progress: bool = True,
    headers: dict[str, str] | None = None,
) -> FileFacts:
    """Get ``url`` to ``path``, unless it is there.

    Connection loss, timeouts and passing faults of the server are tried again, from where they happened. If another
    process downloads the same file, this one waits for it.

    Args:
        url: http or https; redirects are followed, but none from https to http and none further inside this network.
        path: of the file, in a folder that exists.
        sha256: what its bytes must have: 64 hex digits or, as in the names of torch.hub, at least the first 8; None =
            anything.
        progress: show a bar on stderr.
        headers: for that server only, such as one that opens a private model.

    Raises:
        WeightsError: one line with the address and the path, for everything that can go wrong.
    """
    wanted = check_digest(sha256)
    if not is_url(url):
        raise WeightsError(f"weights {shown(str(url))}: not an http or https address")
    try:
        with open_part(path, tell=progress) as part:
            if part is None:
                return _found(url, path, wanted)
            try:
                label = f"downloading {path.name}" if progress else None
                resumed = transfer(url, part, label=label, headers=headers)
                return _finish(url, path, part, wanted, resumed)
            except OSError as error:
                if error.errno in FULL:
                    part.discard()
                raise
            finally:
                if part.size == 0:
                    part.discard()
    except (Refused, Lost) as error:
        raise WeightsError(
            f"weights {path}: cannot get {shown(url)} ({error}); download it by other means and put it at that path"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(f"weights {path}: cannot write the download from {shown(url)} ({reason})") from None


def _found(url: str, path: Path, wanted: str | None) -> FileFacts:
    found = digest_file(path)
    if wanted is not None and not found.startswith(wanted):
        raise WeightsError(
            f"weights {path}: has sha256 {found}, wanted {wanted}; remove it to download it from {shown(url)}"
        )
    return FileFacts(sha256=found, bytes=path.stat().st_size, url=url, resumed_from=0)


def _finish(url: str, path: Path, part: PartFile, wanted: str | None, resumed: int) -> FileFacts:
    """Check the file, and give it its final name."""
    os.fsync(part.descriptor)
    size, found = part.size, digest_file(part.path)
    if size == 0:
        raise Refused("it sent an empty file")
    if wanted is not None and not found.startswith(wanted):
        part.discard()
        raise WeightsError(
            f"weights {path}: the file that {shown(url)} sent has sha256 {found}, wanted {wanted}; it was removed"
        )
    os.replace(part.path, path)
    part.discard()
    fsync_folder(path.parent)
    return FileFacts(sha256=found, bytes=size, url=url, resumed_from=resumed)


def transfer(url: str, part: PartFile, *, label: str | None, headers: dict[str, str] | None = None) -> int:
    """Fill ``part`` with what is at ``url``; ``label`` is that of the progress bar, None for none.

    Returns how many bytes of an earlier run were of use. Raises Refused or Lost (the last attempt's) and OSError.
    """
    return _Transfer(url, part, label, headers).run()


class _Transfer:
    def __init__(self, url: str, part: PartFile, label: str | None, headers: dict[str, str] | None) -> None:
        self.url, self.part, self.label = url, part, label
        self.source = HttpFolder(url, LIMITS, Stop(), headers)
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
        """Write the response. Raises Lost if it ends early, Refused if it is too long."""
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
                    raise Refused(f"it sends more than the limit of {MAX_BYTES:,} bytes")
                if bar is not None:
                    bar.update(len(data))
        if total is not None and size < total:
            raise Lost(f"the connection ended after {size} of {total} bytes")


def _notes(url: str, answer: HttpAnswer, notes: Notes | None) -> Notes:
    """The source of a response. Raises RangeRefused for the rest of another file than the one that was begun."""
    if answer.start == 0 or notes is None:
        return Notes(url=url, etag=answer.etag, modified=answer.modified, total=answer.total)
    total = notes.total if answer.total is None else answer.total
    if notes.total not in (None, total) or (answer.etag and answer.etag != notes.etag):
        raise RangeRefused("the server sent the rest of a different file")
    return replace(notes, total=total)


def _check_size(total: int | None, start: int, part: PartFile) -> None:
    if total is None:
        return
    if total - start > (free := shutil.disk_usage(part.path.parent).free):
        raise Refused(f"its {total} bytes do not fit on the disk, which has {free} left")
    if total > MAX_BYTES:
        raise Refused(f"it has {total:,} bytes, more than the limit of {MAX_BYTES:,}")
