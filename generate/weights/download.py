"""Downloads that survive a bad network, a kill and a second process, and are whole or absent."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from genrep.errors import WeightsError
from genrep.files import fsync_folder
from genrep.net import SCHEMES, Lost, Refused, shown

from .cache import digest_file
from .part import Part, open_part
from .transfer import transfer

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # a part that is of no use there only keeps the disk full


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of a file that is there."""

    sha256: str
    bytes: int
    url: str
    resumed_from: int  # bytes of an earlier run that were of use; 0 if there were none, or the file was there


def is_url(text: object) -> bool:
    """Whether it is an address that ``download`` takes."""
    return isinstance(text, str) and text.partition("://")[0].lower() in SCHEMES


def file_name(url: str) -> str:
    """The name under which an address publishes its file. Raises WeightsError if that is no name for a file here."""
    try:
        name = unquote(urlsplit(url).path.rpartition("/")[2], errors="strict")
    except ValueError:
        name = ""
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name.encode()) > 200:
        raise WeightsError(f"weights {shown(url)}: its last part is no file name")
    return name


def check_digest(sha256: str | None) -> str | None:
    """A published sha256 in lower case. Raises WeightsError unless it is 64 hex digits, or at least the first 8."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", str(sha256)):
        raise WeightsError(f"weights: sha256 = {sha256!r}; wanted 64 hex digits, or at least the first 8")
    return None if sha256 is None else str(sha256).lower()


def download(url: str, path: Path, *, sha256: str | None = None, progress: bool = True) -> Facts:
    """Get ``url`` to ``path``, unless it is there.

    Connection loss, timeouts and passing faults of the server are tried again, from where they happened. If another
    process downloads the same file, this one waits for it.

    Args:
        url: http or https; redirects are followed, but none from https to http and none further inside this network.
        path: of the file, in a folder that exists.
        sha256: what its bytes must have: 64 hex digits or, as in the names of torch.hub, at least the first 8; None =
            anything.
        progress: show a bar on stderr.

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
                resumed = transfer(url, part, label=f"downloading {path.name}" if progress else None)
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
            f"weights {path}: cannot get {shown(url)} ({error}); get it in another way and put it at that path"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(f"weights {path}: cannot write what {shown(url)} sends ({reason})") from None


def _found(url: str, path: Path, wanted: str | None) -> Facts:
    found = digest_file(path)
    if wanted is not None and not found.startswith(wanted):
        raise WeightsError(
            f"weights {path}: has sha256 {found}, wanted {wanted}; remove it to get it from {shown(url)}"
        )
    return Facts(sha256=found, bytes=path.stat().st_size, url=url, resumed_from=0)


def _finish(url: str, path: Path, part: Part, wanted: str | None, resumed: int) -> Facts:
    """Check what came, and give it its name."""
    os.fsync(part.descriptor)
    size, found = part.size, digest_file(part.path)
    if size == 0:
        raise Refused("it sent an empty file")
    if wanted is not None and not found.startswith(wanted):
        part.discard()
        raise WeightsError(
            f"weights {path}: what {shown(url)} sent has sha256 {found}, wanted {wanted}; it was removed"
        )
    os.replace(part.path, path)
    part.discard()
    fsync_folder(path.parent)
    return Facts(sha256=found, bytes=size, url=url, resumed_from=resumed)
