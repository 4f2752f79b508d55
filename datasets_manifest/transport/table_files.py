"""Tables of rows as files that travel beside the shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..manifest import Manifest, Shard
from ..tables import table_faults


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A table of rows as a file that travels: like a shard, but without a record."""

    name: str
    bytes: int
    sha256: str
    count: int  # rows

    @classmethod
    def all_of(cls, manifest: Manifest) -> list[TableFile]:
        """Those of a dataset, in order."""
        return [cls(**facts) for facts in manifest.tables]

    def fault(self, path: Path) -> str | None:
        """What is wrong with a file of the right sha256; None if every line of it is a row."""
        return next(table_faults(path, vars(self), "full"), None)


File = Shard | TableFile


def files_of(manifest: Manifest) -> list[File]:
    """All files of a dataset whose sha256 its manifest states: tables first."""
    return [*TableFile.all_of(manifest), *manifest.shards]
