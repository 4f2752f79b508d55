"""check_beton on hostile pointer tables: nothing that FFCV would follow leaves its page, its sample or its size."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest import layout
from genrep.datasets_manifest.beton import check_beton
from genrep.errors import DatasetError

PAGE = 2 << 20
Patch = Any  # conftest's


def test_a_pointer_that_the_table_lacks(patch: Patch) -> None:
    patch.records["z_positive"][1] += 4
    patch.refused("sample 1: z_positive points at .*, which is not in the allocation table")


@pytest.mark.parametrize("pointer", [0, 23, PAGE - 1, 2 * PAGE, 2**63, 2**64 - 1])
def test_pointers_outside_the_data_pages(patch: Patch, pointer: int) -> None:
    patch.table["ptr"][2] = pointer
    patch.records["z_anchor"][0] = pointer
    patch.refused("row 2 points at")


@pytest.mark.parametrize("pointer", [0, 2**64 - 1])
def test_records_that_point_outside_alone(patch: Patch, pointer: int) -> None:
    patch.records["anchor"]["data_ptr"][2] = pointer
    patch.refused("sample 2: anchor points at")


def test_a_pointer_used_twice(patch: Patch) -> None:
    patch.records["anchor"]["data_ptr"][2] = patch.records["anchor"]["data_ptr"][0]
    patch.refused("sample 2: anchor points at .*, as sample 0's anchor does")


@pytest.mark.parametrize(
    ("size", "match"), [(0, "has 0 bytes"), (PAGE + 1, "bytes, wanted 1 to"), (2**64 - 1, "wanted 1 to")]
)
def test_hostile_sizes(patch: Patch, size: int, match: str) -> None:
    patch.table["size"][5] = size
    patch.refused(match)


def test_a_size_that_leaves_the_page(patch: Patch) -> None:
    patch.table["size"][-1] = PAGE
    patch.refused("leaves its page")


def test_an_overlap(patch: Patch) -> None:
    patch.table["size"][0] += 1
    patch.refused("overlap")


def test_equal_pointers_in_the_table(patch: Patch) -> None:
    patch.table["ptr"][1] = patch.table["ptr"][0]
    patch.refused("overlap")


@pytest.mark.parametrize(
    ("row", "match"), [(-1, "z_positive has 23 bytes, wanted 24"), (0, "sample 0: anchor has 143")]
)
def test_sizes_of_raw_values_are_exact(patch: Patch, row: int, match: str) -> None:
    patch.table["size"][row] -= 1
    patch.refused(match)


def test_the_last_value_cannot_grow_into_the_padding(patch: Patch) -> None:
    patch.table["size"][-1] += 1000
    patch.refused("z_positive has 1024 bytes, wanted 24")


def test_jpegs_cannot_be_huge(jpeg: Path, patch_of: Patch) -> None:
    patch = patch_of(jpeg)
    order = np.argsort(patch.table["ptr"])
    patch.table["ptr"][order[-1]] = PAGE + 1_500_000
    patch.records["z_positive_1"][-1] = PAGE + 1_500_000
    # the last image but one of the page may now be long
    row = int(np.flatnonzero(patch.table["ptr"] == patch.records["positive_1"]["data_ptr"][-1])[0])
    patch.table["ptr"][row] = patch.records["positive_1"]["data_ptr"][-1] = PAGE + 1_000_000
    patch.table["size"][row] = 400_000
    patch.refused("sample 2: positive_1 has 400000 bytes, wanted 1 to")


def test_a_value_of_another_sample(patch: Patch) -> None:
    patch.table["sample_id"][0] = 2
    patch.refused("sample 0: anchor belongs to sample 2 in the allocation table")


@pytest.mark.parametrize("owner", [3, 2**64 - 1])
def test_a_value_of_no_sample(patch: Patch, owner: int) -> None:
    patch.table["sample_id"][-1] = owner
    patch.refused(f"belongs to sample {owner}")


def test_pages_of_nothing(patch: Patch) -> None:
    """A file of holes: 1 GB that costs its maker nothing and every reader minutes."""
    table_start = patch.table_start + 512 * PAGE
    patch.header(table_start=table_start)
    with open(patch.path, "wb") as file:
        file.write(patch.data[: patch.table_start])
        file.seek(table_start)
        file.write(patch.data[patch.table_start :])
    with pytest.raises(DatasetError, match=r"513 data pages for .* bytes of data, wanted at most 1"):
        check_beton(patch.path, patch.fields, patch.count, patch.first)


# --- at random


def test_flips_in_the_tables_never_escape(patch: Patch) -> None:
    """A slice of the fuzzing done while this was written: every flip is refused in one line or does not matter."""
    rng = random.Random(3)
    whole = bytes(patch.data)
    tables = [*range(patch.records_start + patch.records.nbytes), *range(patch.table_start, len(whole))]
    os.truncate(patch.path, 0)
    patch.path.write_bytes(whole)
    with open(patch.path, "r+b", buffering=0) as file:
        for _ in range(400):
            places = rng.sample(tables, rng.choice((1, 1, 2, 8)))
            for place in places:
                os.pwrite(
                    file.fileno(),
                    bytes([rng.choice((0, 1, 127, 128, 255, whole[place] ^ (1 << rng.randrange(8))))]),
                    place,
                )
            try:
                check_beton(patch.path, patch.fields, patch.count, patch.first)
            except DatasetError as error:
                assert "\n" not in str(error)
            for place in places:
                os.pwrite(file.fileno(), whole[place : place + 1], place)
    patch.check(whole)


def test_a_large_table_is_checked_by_arrays(tmp_path: Path, calls: Callable[[Callable[[], object]], int]) -> None:
    """200,000 samples of four pointers each, tables only (the pages are a hole); a million take 0.8 s."""

    from genrep.datasets_manifest.schema import field_table

    fields = field_table((8, 8), "raw", num_positives=1, z_anchor=[16])
    count, sizes = 200_000, [192, 192, 64, 64]
    per_page = PAGE // sum(sizes)
    record = layout.record_dtype(fields)
    records = np.zeros(count, record)
    records_start = layout.HEADER.size + layout.DESCRIPTOR.size * len(fields)
    pages_start = -(-(records_start + records.nbytes) // PAGE) * PAGE
    sample = np.arange(count, dtype=np.uint64)
    base = pages_start + sample // per_page * PAGE + sample % per_page * sum(sizes)
    table = np.zeros((count, 4), layout.ALLOCATION)
    for j, name in enumerate(("anchor", "positive", "z_anchor", "z_positive")):
        table["sample_id"][:, j], table["ptr"][:, j], table["size"][:, j] = sample, base + sum(sizes[:j]), sizes[j]
        if j < 2:
            records[name]["data_ptr"], records[name]["mode"] = table["ptr"][:, j], 1
            records[name]["height"] = records[name]["width"] = 8
        else:
            records[name] = table["ptr"][:, j]
    records["index"] = sample
    table_start = pages_start + -(-count // per_page) * PAGE
    path = tmp_path / "large.beton"
    with open(path, "wb") as file:
        file.write(layout.HEADER.pack(2, len(fields), PAGE, count, table_start))
        file.write(b"".join(layout.descriptor(field) for field in fields))
        file.write(records.tobytes())
        file.seek(table_start)
        file.write(table.tobytes())
    assert calls(lambda: check_beton(path, fields, count, 0)) < count / 100
