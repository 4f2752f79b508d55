"""Files of results: entries of a version, which reports read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genrep.errors import DataError
from genrep.evaluate.results import RESULT_VERSION, add, read_results

ENTRY = {"dataset": "x", "protocol": {"name": "knn"}, "seed": 0, "value": 1.0}


def test_entries_are_read_with_their_version_and_without(tmp_path: Path) -> None:
    path = tmp_path / "knn.json"
    path.write_text(json.dumps([ENTRY]))
    assert read_results(path) == [ENTRY]
    with_version = {**ENTRY, "seed": 1, "version": RESULT_VERSION}
    add(path, with_version)
    assert read_results(path) == [ENTRY, with_version]


def test_an_entry_of_another_version_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "knn.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, "seed": 1, "version": 2}]))
    with pytest.raises(
        DataError, match=r"knn\.json: entry 1: version 2, wanted 1; a newer genrep wrote it: upgrade to read it$"
    ):
        read_results(path)
