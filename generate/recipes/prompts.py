"""Prompts from a file: a prompt per line, ``GROUP<TAB>PROMPT`` where lines are grouped, or JSON lines.

A line of ``FILE.jsonl`` is an object with ``prompt`` and perhaps ``group``, as in a dataset's own ``prompts.jsonl``. Lines may
end in CRLF. Empty ones are skipped, duplicates kept; both are counted. The file is read line by line and only places are kept,
so a million prompts take 24 MB. What a prompt may hold is the format's rule (``datasets_manifest.tables``).
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.datasets_manifest.schema import MAX_TABLE_BYTES, MAX_TABLE_ROWS
from genrep.datasets_manifest.tables import MAX_GROUP, MAX_LINE, MAX_PROMPT, text_fault
from genrep.errors import RecipeError
from genrep.files import user_path
from genrep.progress import note
from genrep.untrusted import open_regular, printable, read_at, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOM = b"\xef\xbb\xbf"
MAX_GROUP_BYTES = 32 << 20  # of all groups' names: they are a manifest's class names, and a manifest has a limit


def read_prompts(path: Path | str) -> Prompts:
    """Read and check a file of prompts.

    Raises:
        RecipeError: it cannot be read, or a line is no prompt; names the line.
    """
    prompts = Prompts.of(user_path(str(path)))
    if prompts.num_empty or prompts.num_repeated:
        note(
            f"{printable(str(path))}: {len(prompts)} prompts; {prompts.num_empty} empty lines skipped, "
            f"{prompts.num_repeated} lines repeat an earlier one"
        )
    return prompts


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """The prompts of a file in order: ``prompts[row]`` is a text, read when it is asked for. Travels to other processes."""

    path: Path
    places: NDArray[np.int64]  # (N, 2), where each line begins and how long it is
    group_numbers: NDArray[np.int64]  # (N,), -1 = none
    groups: tuple[str, ...]  # names, by first appearance
    num_empty: int
    num_repeated: int

    @classmethod
    def of(cls, path: Path) -> Prompts:
        """Read the file; as ``read_prompts``, in silence."""
        places, numbers, digests = array("q"), array("q"), array("Q")
        groups: dict[str, int] = {}
        empty = names = 0
        for number, (start, line) in enumerate(_lines(path), 1):
            content = line.removesuffix(b"\n").removesuffix(b"\r")
            if not content.strip():
                empty += 1
                continue
            try:
                prompt, group = _parsed(content, path)
            except ValueError as reason:
                raise RecipeError.naming("{prompts} {}: line {}: {}", printable(str(path)), number, reason) from None
            places.extend((start, len(content)))
            if group is not None and group not in groups:
                names += len(group.encode()) + 3  # as an item of a list in JSON
                if names > MAX_GROUP_BYTES:
                    raise RecipeError.naming(
                        "{prompts} {}: line {}: the names of {:,} groups are more than {} bytes together",
                        *(printable(str(path)), number, len(groups) + 1, MAX_GROUP_BYTES),
                    )
            numbers.append(-1 if group is None else groups.setdefault(group, len(groups)))
            digests.append(int.from_bytes(hashlib.sha256(f"{group}\t{prompt}".encode()).digest()[:8], "little"))
            if len(numbers) > MAX_TABLE_ROWS:
                raise RecipeError.naming("{prompts} {}: more than {:,} prompts", printable(str(path)), MAX_TABLE_ROWS)
        if not numbers:
            raise RecipeError.naming("{prompts} {}: holds no prompts, wanted one a line", printable(str(path)))
        return cls(
            path=path,
            places=np.frombuffer(places, dtype=np.int64).reshape(-1, 2),
            group_numbers=np.frombuffer(numbers, dtype=np.int64),
            groups=tuple(groups),
            num_empty=empty,
            num_repeated=len(digests) - len(np.unique(np.frombuffer(digests, dtype=np.uint64))),
        )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> str:
        start, size = self.places[row].tolist()
        data = bytes(read_at(self._descriptor, size, start))
        try:
            return _parsed(data, self.path)[0]
        except ValueError:
            raise RecipeError.naming("{prompts} {}: changed since it was read", printable(str(self.path))) from None

    @cached_property
    def _descriptor(self) -> int:
        """The open file, for as long as the object lives."""
        descriptor = open_regular(self.path, RecipeError, follow=True)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_descriptor"}


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and its bytes. Raises RecipeError for a line or a file that is too long."""
    where = printable(str(path))
    with os.fdopen(open_regular(path, RecipeError, follow=True), "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_TABLE_BYTES:
            raise RecipeError.naming("{prompts} {}: more than {} bytes", where, MAX_TABLE_BYTES)
        start, number = 0, 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise RecipeError.naming("{prompts} {}: line {}: more than {} bytes", where, number, MAX_LINE)
            skipped = len(BOM) if number == 1 and line.startswith(BOM) else 0
            yield start + skipped, line[skipped:]
            start += len(line)


def _parsed(line: bytes, path: Path) -> tuple[str, str | None]:
    """Prompt and group of a line. Raises ValueError that says what is wrong."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{shown(line[:80])}, wanted UTF-8") from None
    if path.suffix == ".jsonl":
        prompt, group = _of_json(text)
    else:
        before, tab, prompt = text.rpartition("\t")
        group = before if tab else None
    if fault := text_fault(prompt, MAX_PROMPT):
        raise ValueError(f"the prompt is {fault}")
    if group is not None and (fault := text_fault(group, MAX_GROUP)):
        raise ValueError(f"the group is {fault}")
    return prompt, group


def _of_json(text: str) -> tuple[Any, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "prompt" not in row or row.keys() - {"prompt", "group"}:
        raise ValueError(f'{shown(text)}, wanted an object like {{"prompt": "a cat", "group": "cat"}}')
    return row["prompt"], row.get("group")
