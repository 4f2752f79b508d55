"""Results side by side: one table per dataset and protocol, so that unlike numbers never stand in one column."""

from __future__ import annotations

from pathlib import Path

from genrep.errors import DataError
from genrep.files import digest_json

from .results import Entry, read_results

RESULT_FILE = "linear.json"


def results_table(rows: list[tuple[str, Path]]) -> str:
    """Aligned tables of the results found in folders (or result files), in the order given.

    Args:
        rows: names to show, and where the results are.

    Raises:
        DataError: a folder holds no results.
    """
    groups: dict[str, list[tuple[str, Entry]]] = {}
    for name, path in rows:
        file = path / RESULT_FILE if path.is_dir() else path
        entries = read_results(file)
        if not entries:
            raise DataError(f"{file}: no results; genrep-evaluate linear --out {path} writes them")
        for entry in entries:
            groups.setdefault(digest_json([entry["dataset"], entry["protocol"]]), []).append((name, entry))
    return "\n\n".join(_group(found) for found in groups.values())


def _group(found: list[tuple[str, Entry]]) -> str:
    first = found[0][1]
    title = f"{first['dataset']}, {first.get('metric', '')} ({first.get('unit', '')}), n = {first.get('n', '?')} test images"
    table = [("", "encoder", "top-1", "seed")]
    for name, entry in found:
        table.append((name, _encoder(entry), f"{entry['value']:.2f}", str(entry["seed"])))
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}".rstrip()
        for row in table
    ]
    return "\n".join([title, *lines, *_protocol(first)])


def _encoder(entry: Entry) -> str:
    facts = entry.get("encoder", {})
    trained = "" if facts.get("trained") else ", random init"
    return f"{facts.get('arch', '?')}, {facts.get('stem', '?')} stem{trained}, {entry.get('encoder_sha256', '?')[:8]}"


def _protocol(entry: Entry) -> list[str]:
    return ["protocol:", *(f"  {name}: {value}" for name, value in entry["protocol"].items())]
