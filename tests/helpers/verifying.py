"""What the tests of verify have in common."""

from pathlib import Path

from genrep.datasets_manifest.verify import verify


def lines(folder: Path, level: str = "bytes") -> list[str]:
    return [str(problem) for problem in verify(folder, level)]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
