"""Results side by side: one table per dataset and protocol, so that unlike numbers never stand in one column."""

from __future__ import annotations

import statistics
from pathlib import Path

from genrep.encoders.architectures import in_words
from genrep.errors import DataError
from genrep.files import digest_json

from .protocol import result_files
from .results import DATA, Entry, read_results

Named = tuple[str, Entry]


def results_table(rows: list[tuple[str, Path]]) -> str:
    """Aligned tables of the results found in folders (or result files), in the order given.

    Args:
        rows: names to show, and where the results are.

    Raises:
        DataError: a folder holds no results.
    """
    return table_of([(name, entry) for name, path in rows for entry in entries_of(path)])


def table_of(found: list[Named]) -> str:
    """``results_table`` of entries that are read already, with the names to show."""
    groups: dict[str, list[Named]] = {}
    for name, entry in found:
        groups.setdefault(digest_json([entry["dataset"], entry["protocol"]]), []).append((name, entry))
    return "\n\n".join([*map(_group, groups.values()), *_other_data(list(groups.values()))])


def _other_data(groups: list[list[Named]]) -> list[str]:
    """Tables that differ only in the images that they are of look alike; a line for each such set of tables."""
    kinds: dict[str, list[Entry]] = {}
    for found in groups:
        entry = found[0][1]
        rest = {name: value for name, value in entry["protocol"].items() if name not in DATA}
        kinds.setdefault(digest_json([entry["dataset"], rest]), []).append(entry)
    return [
        f"{like[0]['dataset']}: {len(like)} tables by one protocol, of different images or labels ({' or '.join(DATA)} differs)"
        for like in kinds.values()
        if len(like) > 1
    ]


def entries_of(path: Path) -> list[Entry]:
    """The results found in a folder, or in a result file. Raises DataError if there are none."""
    files = [path / name for name in result_files()] if path.is_dir() else [path]
    entries = [entry for file in files for entry in read_results(file)]
    if not entries:
        raise DataError(f"{path}: no results; genrep-evaluate linear --out {path} writes some")
    return entries


def _group(found: list[Named]) -> str:
    first = found[0][1]
    title = f"{first['dataset']}, {first.get('metric', '')} ({first.get('unit', '')}), n = {first.get('n', '?')} test images"
    with_top5 = all(entry.get("top5") is not None for _, entry in found)
    head = ["", "encoder", "result", *(["top-5"] if with_top5 else []), "seed"]
    lines = [
        head,
        *(line for name in dict.fromkeys(name for name, _ in found) for line in _rows(name, found, with_top5)),
    ]
    return "\n".join([title, *aligned(lines), *_protocol(first)])


def _rows(name: str, found: list[Named], with_top5: bool) -> list[list[str]]:
    entries = [entry for other, entry in found if other == name]
    columns = ["value", *(["top5"] if with_top5 else [])]
    rows = [
        [name, _encoder(entry), *(f"{entry[column]:.2f}" for column in columns), str(entry["seed"])]
        for entry in entries
    ]
    if len(entries) > 1:
        rows.append([name, "", *(mean_std([entry[column] for entry in entries]) for column in columns), "mean ± std"])
    return rows


def mean_std(values: list[float]) -> str:
    """``61.52 ± 0.31``, with N - 1; without a deviation where there is one value.

    >>> mean_std([1.0, 2.0, 3.0]), mean_std([1.0])
    ('2.00 ± 1.00', '1.00')
    """
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns of one width; the first two to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:<{width}}" if k < 2 else f"{cell:>{width}}" for k, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _encoder(entry: Entry) -> str:
    facts = entry.get("encoder", {})
    trained = "" if facts.get("trained") else ", random init"
    return f"{in_words(facts)}{trained}, {entry.get('encoder_sha256', '?')[:8]}"


def _protocol(entry: Entry) -> list[str]:
    return ["protocol:", *(f"  {name}: {value}" for name, value in entry["protocol"].items())]
