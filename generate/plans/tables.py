"""The tables that lie beside a dataset's shards, prompts and real anchors: what they will be, and how they are written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.datasets_manifest.tables import write_prompts, write_sources

if TYPE_CHECKING:
    from ..recipes.conditions import AnchorTable, PromptTable

PROMPTS, SOURCES = "prompts.jsonl", "sources.jsonl"


@dataclass(frozen=True, kw_only=True)
class PlannedTable:
    """A table of a dataset. Travels to worker processes."""

    content: PromptTable | AnchorTable
    facts: dict[str, Any]  # name, sha256, bytes and count of the file

    @property
    def key(self) -> str:
        """Its key in a recipe."""
        return "prompts" if self.facts["name"] == PROMPTS else "anchors"

    def identity(self) -> dict[str, Any]:
        """What a recipe holds of it."""
        more = {} if self.key == "prompts" else self.content.to_json()  # type: ignore[union-attr]
        return {**more, "sha256": self.facts["sha256"], "count": self.facts["count"]}

    def write(self, folder: Path) -> None:
        """Write the file into a dataset's folder."""
        _write(self.content, folder, self.facts["name"])


def planned_tables(prompts: PromptTable | None, anchors: AnchorTable | None) -> tuple[PlannedTable, ...]:
    """The tables of a build, in the manifest's order."""
    contents: list[tuple[str, PromptTable | AnchorTable | None]] = [(PROMPTS, prompts), (SOURCES, anchors)]
    with tempfile.TemporaryDirectory(prefix="genrep-tables-") as folder:
        return tuple(
            PlannedTable(content=content, facts=_write(content, Path(folder), name))
            for name, content in contents
            if content is not None
        )


def _write(content: Any, folder: Path, name: str) -> dict[str, Any]:
    if name == SOURCES:
        return write_sources(folder / name, content.rows())
    return write_prompts(folder / name, _prompts(content))


def _prompts(prompts: PromptTable) -> Iterator[tuple[str, str | None]]:
    for row in range(len(prompts)):
        number = int(prompts.group_numbers[row])
        yield prompts[row], prompts.groups[number] if number >= 0 else None
