"""Output files that are whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from genrep.files import faults_named, fsync_folder


def hidden(path: Path) -> Path:
    """The name of a file or folder while it is being written."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that gets its name when the block ends well. An OSError names ``path``."""
    temporary = hidden(path)
    try:
        with faults_named(path), open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


@contextmanager
def whole_folders(paths: list[Path]) -> Iterator[list[Path]]:
    """Fill folders that get their names, the last of ``paths`` last, when the block ends well; yields where to write."""
    temporary = [hidden(path) for path in paths]
    try:
        for path in temporary:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        yield temporary
        for path, final in zip(temporary, paths, strict=True):
            shutil.rmtree(final, ignore_errors=True)  # of a run that was killed between two of them
            os.replace(path, final)
            fsync_folder(final.parent)
    finally:
        for path in temporary:
            shutil.rmtree(path, ignore_errors=True)
