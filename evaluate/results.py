"""``linear.json``: a list of results keyed by (dataset, protocol, seed), appended and never overwritten silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genrep.errors import DataError
from genrep.files import write_json

Entry = dict[str, Any]
KEY = ("dataset", "protocol", "seed")


def read_results(path: Path) -> list[Entry]:
    """The entries of a result file; none if there is no file. Raises DataError if it is something else."""
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(e, dict) and e.keys() >= {*KEY, "value"} for e in entries):
        raise DataError(f"{path}: wanted a list of results with {', '.join(KEY)} and value")
    return entries


def find(entries: list[Entry], key: Entry) -> Entry | None:
    """The entry with the key's dataset, protocol and seed."""
    return next((entry for entry in entries if all(entry[name] == key[name] for name in KEY)), None)


def add(path: Path, entry: Entry) -> None:
    """Append an entry, or put it in the place of the one that has its key."""
    entries = read_results(path)
    old = find(entries, entry)
    if old is None:
        entries.append(entry)
    else:
        entries[entries.index(old)] = entry
    write_json(path, entries)
