"""What a finished run leaves that only an unfinished one needs: told with its size and how to be rid of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from ..files import size_text


def leftovers(paths: Iterable[Path], needed: str = "to go on") -> str | None:
    """A line about the files and folders that are there; None if none are.

    ``needed``: what they are still good for. Bytes that two names share (hard links) count once.
    """
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    files = [file for path in there for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in (file.stat() for file in files)}
    names = ", ".join(path.name for path in there)
    each = "is" if len(there) == 1 else "are"
    option = "-r " if any(path.is_dir() for path in there) else ""
    command = f"rm {option}{' '.join(shlex.quote(str(path)) for path in there)}"
    return f"{names} ({size_text(sum(sizes.values()))}) {each} only needed {needed}; remove with: {command}"
