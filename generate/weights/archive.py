"""Unpack gzipped tar archives of strangers safely."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from genrep.errors import WeightsError
from genrep.untrusted import one_line, regular

MAX_FILES, MAX_DEPTH = 10_000, 32
MAX_RATIO, FREE_BYTES = 20, 1 << 30  # unpacked, it may have FREE_BYTES + MAX_RATIO times the archive's size
MAX_READ = 16 << 20  # bytes that tarfile may want at once: names and headers are read whole
CHUNK = 1 << 20


class _Bounded:
    """A decompressed stream that raises ValueError when it grows out of proportion."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self.stream, self.limit = stream, limit
        self.unsought = 0  # bytes wanted since the last seek: a header may be read in one piece or in many

    def read(self, size: int = -1) -> bytes:
        self.unsought += size
        if size < 0 or self.unsought > MAX_READ:
            raise ValueError("a header of absurd size")
        if self.stream.tell() > self.limit:
            raise ValueError("it unpacks to an absurd size")
        return self.stream.read(size)

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or position > self.limit:
            raise ValueError("it unpacks to an absurd size")
        self.unsought = 0
        return self.stream.seek(position)


def is_archive(path: Path) -> bool:
    """Whether a file is compressed by gzip, as the published archives of weights are. Raises OSError."""
    with open(path, "rb", opener=regular) as file:
        return file.read(2) == b"\x1f\x8b"


def extract(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz into an empty folder.

    Accepts only regular files and folders below ``folder``, each once, in sane number and size. Owners, modes and times are
    ours.

    Raises:
        WeightsError: it is damaged, or holds anything else; ``folder`` may then hold part of it.
    """
    limit = FREE_BYTES + MAX_RATIO * archive.stat().st_size
    try:
        with gzip.open(archive) as stream:
            bounded = _Bounded(stream, limit)
            with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
                _unpack(tar, folder, limit)
            while stream.tell() <= limit and stream.read(CHUNK):  # to the end, where gzip keeps its checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise WeightsError(f"weights {archive}: a damaged or hostile .tar.gz ({one_line(str(error))})") from None
    except OSError as error:
        raise WeightsError(
            f"weights {archive}: cannot be unpacked in {folder.parent} ({one_line(error.strerror or str(error))})"
        ) from None


def _unpack(tar: tarfile.TarFile, folder: Path, limit: int) -> None:
    files = total = 0
    for member in tar:
        target = folder.joinpath(*_parts(member.name))
        files, total = files + 1, total + max(member.size, 0)
        if files > MAX_FILES or total > limit:
            raise ValueError("it unpacks to an absurd size")
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        if not member.isreg() or member.issparse():
            raise ValueError(f"{member.name[:80]!r} is not a regular file")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None  # of a plain file
        with source, open(target, "xb") as file:
            shutil.copyfileobj(source, file, CHUNK)
            if file.tell() != member.size:
                raise ValueError(f"{member.name[:80]!r} is cut short")


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    strange = "\\" in name or not name.isprintable() or len(path.parts) > MAX_DEPTH
    if path.is_absolute() or ".." in path.parts or strange:
        raise ValueError(f"{name[:80]!r} is not a path inside the archive")
    return path.parts
