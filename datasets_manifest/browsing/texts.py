"""What a sample holds besides pictures and latents, in words: prompts, the real anchor's name, what a view drew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genrep.untrusted import line

from ..manifest import Manifest
from ..schema import PROMPT_FIELD, SOURCE_FIELD
from ..tables import PROMPTS_NAME, SOURCES_NAME, Prompts, Table, open_table

if TYPE_CHECKING:
    from ..beton import Beton

MAX_TEXT = 400  # characters of a prompt or name


class Texts:
    """The words of a dataset's samples. A table that is not at hand is told by the numbers of its rows."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        """Raises DatasetError where a table in ``folder`` is of another size than the manifest's."""
        self.floats = [field["name"] for field in manifest.float_fields]
        self.rows = [
            field["name"]
            for field in manifest.fields
            if field["kind"] == "int" and field["name"].partition("_")[0] in (PROMPT_FIELD, SOURCE_FIELD)
        ]
        self.titles = {name: _title(name, [field["name"] for field in manifest.image_fields]) for name in self.rows}
        here = [facts for facts in manifest.tables if (folder / facts["name"]).is_file()]
        self.tables: dict[str, Table] = {facts["name"]: open_table(folder, facts) for facts in here}

    def of(self, beton: Beton, i: int) -> list[tuple[str, str]]:
        """Title and text of each, cut and printable. Raises DatasetError for a row that is none."""
        told = []
        for name in self.rows:
            row = int(beton.samples[name][i])
            told += self._row(self.titles[name], name, row)
        return told + [(name.replace("_", " ").capitalize(), f"{beton.samples[name][i]:.4g}") for name in self.floats]

    def _row(self, title: str, name: str, row: int) -> list[tuple[str, str]]:
        table = self.tables.get(SOURCES_NAME if name == SOURCE_FIELD else PROMPTS_NAME)
        if table is None:
            return [(title, f"row {row}")]
        told = [(title, line(table[row], MAX_TEXT))]
        if isinstance(table, Prompts) and name == PROMPT_FIELD and (group := table.group(row)) is not None:
            told.append(("Group", line(group, MAX_TEXT)))
        return told


def _title(name: str, images: list[str]) -> str:
    """``Prompt``, ``Prompt of positive_1``, ``Real anchor``."""
    _, _, number = name.partition("_")
    if name == SOURCE_FIELD:
        return "Real anchor"
    return f"Prompt of {images[int(number)]}" if number else "Prompt"
