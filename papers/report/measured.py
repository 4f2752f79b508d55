"""The results of a row: entries of result files, checked, and gathered by what may be compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import DataError
from genrep.evaluate.protocol import result_files
from genrep.evaluate.results import DATA, Entry, read_results
from genrep.files import digest_json

from .papers import PublishedProtocol, dataset_facts, published

FAMILIES = {
    "linear": "linear probe",
    "knn": "nearest neighbours",
    "few-label": "few labels",
    "voc07": "VOC classification",
    "finetune": "fine-tuning",
    "detection": "detection",
    "segmentation": "segmentation of frozen patches",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One entry of a result file."""

    path: Path
    entry: Entry
    digest: str  # of dataset and protocol: entries of one digest may be compared
    quantities: dict[str, float]  # what it measured; the first is the result

    @property
    def encoder(self) -> str:
        """The key of the encoder. A result that does not name its encoder counts as an encoder by itself."""
        return str(self.entry.get("encoder_sha256") or f"{self.path}, seed {self.entry['seed']}")


def read_measured(paths: Iterable[Path]) -> list[Measured]:
    """The entries under folders and in files, in their order, each once.

    Raises:
        DataError: a file is missing or no result file, or two hold different values of one result.
    """
    found: dict[tuple[str, str, int], Measured] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such folder or result file")
        for file in [path / name for name in result_files()] if path.is_dir() else [path]:
            for number, entry in enumerate(read_results(file)):
                one = _measured(file, number, entry)
                key = (one.digest, one.encoder, one.entry["seed"])
                first = found.setdefault(key, one)
                if first.quantities != one.quantities:
                    raise DataError(f"{file}: entry {number}: another value than {first.path} has for the same result")
    return list(found.values())


def _measured(path: Path, number: int, entry: Entry) -> Measured:
    where = f"{path}: entry {number}"
    for name, kind, wanted in (
        ("dataset", str, "a name"),
        ("protocol", dict, "an object"),
        ("seed", int, "a whole number"),
    ):
        if not isinstance(entry[name], kind) or isinstance(entry[name], bool):
            raise DataError(f"{where}: {name} is {_short(entry[name])}, wanted {wanted}")
    try:
        digest = digest_json([entry["dataset"], entry["protocol"]])
    except ValueError as error:
        raise DataError(f"{where}: protocol has a number that is not finite") from error
    quantities = _quantities(entry)
    for name, value in quantities.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise DataError(f"{where}: {name} is {_short(value)}, wanted a finite number")
    return Measured(path=path, entry=entry, digest=digest, quantities=quantities)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _quantities(entry: Entry) -> dict[str, Any]:
    """The numbers of an entry under the names that the papers' columns have; unchecked."""
    protocol, values = entry["protocol"], entry.get("values")
    family = protocol.get("name")
    if family == "detection" and isinstance(values, Mapping) and values.get("voc07"):
        said: dict[str, Any] = {}
        for kind, prefix in (("voc07", ""), ("coco", "COCO ")):
            table = values.get(kind)
            said |= {prefix + str(key): value for key, value in table.items()} if isinstance(table, Mapping) else {}
        return said
    if family == "voc07":
        return {"mAP": entry["value"]}
    first = str(protocol.get("metric") or ("top-1" if family == "knn" else entry.get("metric", "value")))
    top5 = entry.get("top5")
    return {first: entry["value"], **({} if top5 is None else {"top-5": top5})}


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A quantity of a row: over its encoders where it has several, else over its seeds."""

    values: tuple[float, ...]  # of each encoder (the mean of its seeds), or of each seed
    count: str  # what they are

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Their deviation (with N - 1); None for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def stats_of(entries: Iterable[Measured], pick: Callable[[Measured], float]) -> Stats:
    """Over encoders if there are several: seeds of a probe on one encoder say nothing of another encoder's training.

    ``pick`` takes the quantity from an entry.
    """
    by_encoder: dict[str, list[float]] = {}
    for one in entries:
        by_encoder.setdefault(one.encoder, []).append(pick(one))
    seeds = [len(values) for values in by_encoder.values()]
    if len(by_encoder) > 1:
        each = f", {seeds[0]} seeds each" if min(seeds) == max(seeds) > 1 else ""
        return Stats(
            values=tuple(statistics.fmean(values) for values in by_encoder.values()),
            count=f"{len(by_encoder)} encoders{each}",
        )
    (values,) = by_encoder.values()
    return Stats(values=tuple(values), count="1" if len(values) == 1 else f"{len(values)} seeds")


@dataclass(frozen=True, kw_only=True)
class ResultGroup:
    """Results that may stand in one column: of one dataset, by one protocol."""

    entries: dict[str, list[Measured]]  # by row

    @property
    def first(self) -> Entry:
        """An entry, for what all have in common."""
        return next(iter(self.entries.values()))[0].entry

    @property
    def dataset(self) -> str:
        """The test images' set."""
        return str(self.first["dataset"])

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol that all results of the group share."""
        protocol: dict[str, Any] = self.first["protocol"]
        return protocol

    @property
    def digest(self) -> str:
        """Digest of dataset and protocol."""
        return next(iter(self.entries.values()))[0].digest

    @property
    def family(self) -> str:
        """Linear probe, detection, …"""
        name = str(self.protocol.get("name", "result"))
        return FAMILIES.get(name, name)

    @property
    def quantities(self) -> list[str]:
        """The quantities that any entry has, the result first."""
        every = [one.quantities for entries in self.entries.values() for one in entries]
        return list(dict.fromkeys(name for quantities in every for name in quantities))

    def stats(self, row: str, quantity: str) -> Stats | None:
        """Statistics of a row; None if one of its entries lacks the quantity."""
        entries = self.entries.get(row, [])
        if not entries or any(quantity not in one.quantities for one in entries):
            return None
        return stats_of(entries, lambda one: one.quantities[quantity])


def grouped(rows: Mapping[str, list[Measured]]) -> list[ResultGroup]:
    """The results of all rows by dataset and protocol, in the order in which they first occur."""
    found: dict[str, dict[str, list[Measured]]] = {}
    for name, entries in rows.items():
        for one in entries:
            found.setdefault(one.digest, {}).setdefault(name, []).append(one)
    return [ResultGroup(entries=entries) for entries in found.values()]


def other_data(groups: Iterable[ResultGroup]) -> list[str]:
    """A line for each dataset and protocol of which there are results of several sets of images, or of unknown ones."""
    found: dict[str, list[ResultGroup]] = {}
    for group in groups:
        rest = {name: value for name, value in group.protocol.items() if name not in DATA}
        found.setdefault(digest_json([group.dataset, rest]), []).append(group)
    said = []
    for like in found.values():
        if len(like) > 1:
            unknown = any(name not in group.protocol for group in like for name in DATA)
            why = "; one of them does not say which images it is of (an earlier version wrote it)" if unknown else ""
            first = like[0]
            said.append(
                f"{first.dataset}, {first.family}: {len(like)} tables by one protocol, of different images or labels "
                f"({' or '.join(DATA)} differs): they are not to be compared{why}"
            )
    return said


def differences(tables: list[dict[str, Any]]) -> list[str]:
    """For each table, the entries in which it differs from another table, as words; empty if all agree.

    >>> differences([{"epochs": 1, "lr": 2.0}, {"epochs": 5, "lr": 2.0}])
    ['epochs 1', 'epochs 5']
    """
    names = list(dict.fromkeys(name for table in tables for name in table))
    differing = [name for name in names if any(table.get(name) != tables[0].get(name) for table in tables)]
    return [", ".join(f"{name} {table.get(name, 'none')}" for name in differing) for table in tables]


MEAN_OF = "mean_of"  # in ``match``: the datasets that a published number is the mean over


def suite_means(entries: list[Measured]) -> list[Measured]:
    """A row's means, one for each encoder and seed that was measured on every dataset of a suite."""
    suites = {one.protocol.name: one.protocol for one in published() if MEAN_OF in one.protocol.match}
    return [mean for suite in suites.values() for mean in _means(entries, suite)]


def _means(entries: list[Measured], suite: PublishedProtocol) -> list[Measured]:
    wanted = {name: value for name, value in suite.match.items() if name != MEAN_OF}
    by_dataset: list[dict[tuple[str, int], Measured]] = []
    for dataset in suite.match[MEAN_OF]:
        whole = {**dataset_facts(dataset), **wanted}
        found = [one for one in entries if one.entry["dataset"] == dataset and _agrees(one, whole)]
        if len({one.digest for one in found}) != 1:
            return []  # not measured, or in several ways
        by_dataset.append({(one.encoder, one.entry["seed"]): one for one in found})
    keys = [key for key in by_dataset[0] if all(key in other for other in by_dataset)]
    return [_mean([found[key] for found in by_dataset], suite.match[MEAN_OF]) for key in keys]


def _agrees(one: Measured, wanted: dict[str, Any]) -> bool:
    return all(one.entry["protocol"].get(name) == value for name, value in wanted.items())


def _mean(parts: list[Measured], datasets: list[str]) -> Measured:
    """The mean of the parts as an entry. Its protocol has the entries that all parts share."""
    first = parts[0].entry
    protocol = {
        name: value
        for name, value in first["protocol"].items()
        if all(name in one.entry["protocol"] and one.entry["protocol"][name] == value for one in parts)
    } | {MEAN_OF: datasets}
    for digest in DATA:  # means over other images are no column of these
        protocol |= {digest: digest_json([one.entry["protocol"].get(digest) for one in parts])}
    name = next(iter(parts[0].quantities))
    mean = statistics.fmean(one.quantities[name] for one in parts if name in one.quantities)
    entry: Entry = {key: first[key] for key in ("seed", "unit", "device", "encoder", "encoder_sha256") if key in first}
    entry |= {"dataset": f"mean of {len(parts)}", "protocol": protocol, "value": mean}
    for name_of_sum in ("n", "seconds"):
        numbers = [one.entry.get(name_of_sum) for one in parts]
        known = [number for number in numbers if isinstance(number, (int, float))]
        entry |= {name_of_sum: sum(known)} if len(known) == len(parts) else {}
    return Measured(
        path=parts[0].path, entry=entry, digest=digest_json([entry["dataset"], protocol]), quantities={name: mean}
    )
