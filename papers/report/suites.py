"""Means over the datasets of a paper's suite, where a row has them all by the paper's protocol."""

from __future__ import annotations

import statistics
from typing import Any

from genrep.evaluate.results import DATA, Entry
from genrep.files import digest_json

from .measured import Measured
from .papers import PublishedProtocol, dataset_facts, published

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
    """As an entry whose protocol is what the parts' have in common."""
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
