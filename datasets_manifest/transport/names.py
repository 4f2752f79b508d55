"""What ``pull`` is to fetch: an address, a folder, or the name of a published dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import DatasetError, one_of
from genrep.net import shown

from .. import catalogue
from .stores import scheme_of


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A dataset, the addresses that may have it, and what is known of it beforehand."""

    urls: tuple[str, ...]  # one at least
    id: str | None = None
    digest: str | None = None


def resolve(text: str, digest: str | None = None) -> Wanted:
    """Addresses of what a user names; a folder with the name of a published dataset is written ``./NAME``.

    ``digest`` is what the user wants of the manifest; the catalogue's must be the same. Raises DatasetError.
    """
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest := digest.lower()):
        raise DatasetError(f"--digest {digest}: wanted the 64 hexadecimal digits that genrep-manifest show prints")
    if scheme_of(text) or not catalogue.NAME.fullmatch(text):
        return Wanted(urls=(text,), digest=digest)
    known = {entry.name: entry for entry in catalogue.entries()}
    if text in known:
        return _published(known[text], digest)
    if not Path(text).exists():
        raise DatasetError(f"{shown(text)}: neither a folder nor a published dataset; known: {one_of(text, known)}")
    return Wanted(urls=(text,), digest=digest)


def _published(entry: catalogue.Entry, digest: str | None) -> Wanted:
    if not entry.urls:
        hint = f"; {entry.command} makes it" if entry.command else ""
        raise DatasetError(f"{entry.name}: published nowhere yet{hint}")
    if digest and entry.digest and entry.digest != digest:
        raise DatasetError(f"--digest {digest}: {entry.name} is published with {entry.digest}")
    return Wanted(urls=tuple(entry.urls), id=entry.id, digest=digest or entry.digest)
