"""Files: paths as users give them, the one JSON form that digests are taken of, locks, writing whole or not at all.

The folder of caches is ``$GENREP_HOME``, else ``$XDG_CACHE_HOME/genrep``, else ``~/.cache/genrep``. It holds ``weights/`` and
``converted/`` of generators, and ``contents/``, digests of image files. Everything in it can be removed at any time, and an
administrator may fill it and make it read-only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import GenRepError, ResumeError
from .untrusted import regular, shown


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a user gives it: ``~`` and ``~user`` at its beginning are home folders. Raises GenRepError for no user's.

    ``./~x`` is an entry of the current folder that has this name, and becomes absolute to stay that.
    """
    text = os.fspath(path)
    if text.startswith("./~"):
        return Path.cwd() / text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        name = text.partition(os.sep)[0]
        raise GenRepError(f"{text}: {name} is not a user's home folder; wanted ./{text} if it is a name of that form")
    return Path(expanded)


def file_and_network(source: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """A weights file, and which of its networks is wanted: what stands behind the last ``#``, unless a file has that name."""
    path = user_path(source)
    name, _, network = os.fspath(source).rpartition("#")
    if name and not path.exists() and user_path(name).exists():
        return user_path(name), network or "."
    return path, None


def size_text(size: int) -> str:
    """Bytes in the largest decimal unit that leaves a number from 1 on: ``130 MB``."""
    number, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if number >= 10 or unit == "bytes" else f"{number:.1f} {unit}"


def nearest(path: Path) -> Path:
    """The path itself if it is there, else the folder closest above it that is."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))


def require_writable(folder: Path) -> None:
    """Raise ResumeError, naming ``out``, where no folder can be made or written there.

    For work that writes at its end only: what would be in vain is refused before it begins. Leaves nothing behind.
    """
    there = nearest(folder)
    if not there.is_dir():
        raise ResumeError.naming("{out} {}: {} is not a folder; wanted a writable folder", folder, there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise ResumeError.naming("{out} {}: no permission to write in {}", folder, there)


CLUTTER = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"}


def is_clutter(name: str) -> bool:
    """Whether a file of this name is one that file managers leave in the folders that they show."""
    return name.casefold() in CLUTTER or name.startswith("._")


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8, Python's float repr; NaN and Infinity are refused with ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """Hex sha256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a regular file's bytes. Raises OSError."""
    with open(path, "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the folder's entries (creations, renames) durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int, kind: int, folder: Path) -> None:
    """Take flock's ``kind`` on an open folder, without waiting. Raises ResumeError if another process holds it.

    The lock is on the folder itself: it leaves no file, and dies with the last process that holds it.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResumeError.naming(
            "{out} {}: another process is using this folder{}", folder, _holder(descriptor)
        ) from None


def _holder(descriptor: int) -> str:
    """The holder of the flock on an open folder, as `` (process 12: command)``; empty if the system does not tell."""
    status = os.fstat(descriptor)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks") as file:  # 1: FLOCK  ADVISORY  WRITE 12 fe:00:3456 0 EOF
            locks = [line.split() for line in file]
        (number, *_) = [fields[4] for fields in locks if fields[1] == "FLOCK" and fields[5] == place]
        command = (
            Path(f"/proc/{int(number)}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except (OSError, ValueError, IndexError):
        return ""
    return f" (process {number}: {shown(command, 120)})"


@contextmanager
def locked_folder(folder: Path) -> Iterator[int]:
    """Make the folder if need be and hold it alone; yields its descriptor.

    Raises ResumeError if another process holds it, or it cannot be written.
    """
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, fcntl.LOCK_EX, folder)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Add the file's name to failures of writes to ``path`` in the block, which do not name it by themselves."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # the system's own; another one says in words what it is
            error.filename = error.filename or str(path)
        raise


def hidden(path: Path) -> Path:
    """The name of a file or folder while it is being written."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Write a file that gets its name, durably, when the block ends well: a reader, or a crash at any moment, sees the old
    content or the new, never a part. An OSError names ``path``.

    Args:
        shared: other processes, here or on other machines, may write the same path. Each uses its own temporary name.
            Else a crash leaves at most the one name, which the next call uses again.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") if shared else hidden(path)
    try:
        # Not through a link that a stranger's folder holds under this name.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with faults_named(path), open(os.open(temporary, flags, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_atomic(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write ``path`` at once, as ``whole_file`` does."""
    with whole_file(path, shared=shared) as file:
        file.write(data)


def write_json(path: Path, value: Any, *, shared: bool = False) -> None:
    """Write readable JSON (sorted keys, two spaces) with ``write_atomic``."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode() + b"\n", shared=shared)


HOME = "GENREP_HOME"  # an environment variable


def home() -> Path:
    """The folder, which need not exist. Raises RuntimeError or OSError if there is no telling where it would be."""
    own, cache = os.environ.get(HOME), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).expanduser().absolute()
    # The XDG specification tells to ignore a relative path.
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "genrep"
