"""The tables that lie beside a dataset's shards, prompts and real anchors: what they will be, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from genrep.datasets_manifest.tables import (
    PROMPTS_NAME,
    SOURCES_NAME,
    prompts_facts,
    sources_facts,
    write_prompts,
    write_sources,
)

if TYPE_CHECKING:
    from ..recipes.conditions import AnchorTable, PromptTable


@dataclass(frozen=True, kw_only=True)
class PlannedTable:
    """A table of a dataset. Travels to worker processes."""

    key: ClassVar[str]  # in a recipe
    facts: dict[str, Any]  # name, sha256, bytes and count of the file

    def identity(self) -> dict[str, Any]:
        """What a recipe holds of it."""
        return {"sha256": self.facts["sha256"], "count": self.facts["count"]}

    def write(self, folder: Path) -> None:
        """Write the file into a dataset's folder."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PlannedPrompts(PlannedTable):
    """``prompts.jsonl``."""

    key = "prompts"
    prompts: PromptTable

    def write(self, folder: Path) -> None:
        """See ``PlannedTable.write``."""
        write_prompts(folder / PROMPTS_NAME, _rows(self.prompts))


@dataclass(frozen=True, kw_only=True)
class PlannedAnchors(PlannedTable):
    """``sources.jsonl``."""

    key = "anchors"
    anchors: AnchorTable

    def identity(self) -> dict[str, Any]:
        """See ``PlannedTable.identity``."""
        return {**self.anchors.to_json(), **super().identity()}

    def write(self, folder: Path) -> None:
        """See ``PlannedTable.write``."""
        write_sources(folder / SOURCES_NAME, self.anchors.rows())


def planned_tables(prompts: PromptTable | None, anchors: AnchorTable | None) -> tuple[PlannedTable, ...]:
    """The tables of a build, in the manifest's order."""
    tables: list[PlannedTable] = []
    if prompts is not None:
        tables.append(PlannedPrompts(facts=prompts_facts(_rows(prompts)), prompts=prompts))
    if anchors is not None:
        tables.append(PlannedAnchors(facts=sources_facts(anchors.rows()), anchors=anchors))
    return tuple(tables)


def _rows(prompts: PromptTable) -> Iterator[tuple[str, str | None]]:
    for row in range(len(prompts)):
        number = int(prompts.group_numbers[row])
        yield prompts[row], prompts.groups[number] if number >= 0 else None
