"""check_beton: what FFCV's writer makes passes, every other file is refused before FFCV could map it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest import layout
from genrep.datasets_manifest.beton import Beton, check_beton
from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.schema import field_table
from genrep.errors import DatasetError

PAGE = 2 << 20
Patch = Any  # conftest's


@pytest.mark.ffcv
def test_layout_is_ffcvs_own(originals: dict[str, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ffcv import types
        from ffcv.reader import Reader
    assert types.CURRENT_VERSION == layout.VERSION
    assert types.HeaderType.itemsize == layout.HEADER.size
    assert types.FieldDescType.itemsize == layout.DESCRIPTOR.size
    assert types.ALLOC_TABLE_TYPE == layout.ALLOCATION
    for folder in originals.values():
        fields = layout.in_beton(read_manifest(folder).fields)
        reader = Reader(str(folder / "shard-00000.beton"))
        ours = layout.record_dtype(fields)
        assert [reader.metadata_type.fields[f"f{i}"] for i in range(len(fields))] == list(ours.fields.values())
        assert reader.metadata_type.itemsize == ours.itemsize
        data = (folder / "shard-00000.beton").read_bytes()
        wanted = b"".join(layout.descriptor(field) for field in fields)
        assert data[layout.HEADER.size :][: len(wanted)] == wanted


@pytest.mark.parametrize("kind", ["raw", "jpeg", "real"])
def test_good_files_pass(originals: dict[str, Path], kind: str) -> None:
    manifest = read_manifest(originals[kind])
    for shard in manifest.shards:
        check_beton(originals[kind] / shard.name, manifest.fields, shard.count, shard.first_index)


def test_the_emptiest_pages_that_a_writer_makes_pass(tmp_path: Path, each_writer: Callable[..., None]) -> None:
    fields = field_table((432, 432), "raw", num_positives=1, z_anchor=[4])  # a sample fills 0.53 of a page
    each_writer(tmp_path / "x.beton", fields, range(7, 10))
    assert (tmp_path / "x.beton").stat().st_size > 4 * PAGE
    check_beton(tmp_path / "x.beton", fields, 3, 7)


def test_any_order_of_the_allocation_table_passes(patch: Patch) -> None:
    patch.table[:] = patch.table[::-1].copy()
    patch.check()


def test_values_read_are_those_written(originals: dict[str, Path], expected: Callable[..., dict[str, Any]]) -> None:
    manifest = read_manifest(originals["raw"])
    with Beton(originals["raw"] / "shard-00001.beton", manifest.fields, 2, 3) as beton:
        wanted = expected(manifest.fields, 4)
        assert beton.read(1, "positive").tobytes() == wanted["positive"].tobytes()
        assert beton.read(1, "z_positive").tobytes() == wanted["z_positive"].tobytes()


# --- files cut short, unfinished, or of another kind


def test_every_truncation_is_refused(patch: Patch) -> None:
    points = {0, 1, 23, 24, 500, patch.records_start - 1, patch.records_start, patch.records_start + 1}
    points |= {patch.records_start + patch.records.nbytes - 1, PAGE - 1, PAGE, PAGE + 100, patch.table_start - 1}
    points |= {patch.table_start + k for k in range(0, patch.table.nbytes, 12)}
    whole = bytes(patch.data)
    for size in sorted(points):
        patch.refused("truncated", whole[:size])


def test_a_tail_is_refused(patch: Patch) -> None:
    patch.refused("its tables end at", bytes(patch.data) + b"x")


def test_unfinished(patch: Patch) -> None:
    patch.header(table_start=0)
    patch.refused("unfinished", bytes(patch.data)[: patch.table_start])


def test_an_unfinished_file_of_the_killed_writer_is_refused(patch: Patch) -> None:
    # what kill -9 leaves: header and descriptors, no records, some pages
    patch.header(table_start=0)
    patch.records.view(np.uint8)[:] = 0
    patch.refused("unfinished", bytes(patch.data)[:PAGE])


@pytest.mark.parametrize("content", [b"", b"\0" * 24, b"\xff" * 5000, b"PK\3\4" * 1000])
def test_other_files(patch: Patch, content: bytes) -> None:
    patch.refused("truncated|version", content)


def test_missing_link_folder_and_pipe(patch: Patch, tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(DatasetError, match=match):
            check_beton(path, patch.fields, patch.count, patch.first)

    refused(tmp_path / "nothing.beton", "missing")
    refused(tmp_path / "no" / "folder.beton", "missing")
    (tmp_path / "link.beton").symlink_to(patch.path)
    refused(tmp_path / "link.beton", "symbolic link")
    refused(tmp_path, "a folder or device")
    os.mkfifo(tmp_path / "pipe.beton")
    refused(tmp_path / "pipe.beton", "a folder or device")  # and does not wait for a writer
    refused(Path("/dev/zero"), "a folder or device")
    refused(Path("a\0b"), "null (byte|character)")


# --- the header and the field descriptors


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": 1}, "FFCV format version 1, wanted 2"),
        ({"num_fields": 5}, "5 fields, the manifest has 6"),
        ({"num_fields": 65535}, "65535 fields"),
        ({"num_samples": 4}, "4 samples, the manifest says 3"),
        ({"num_samples": 2**64 - 1}, "samples, the manifest says 3"),
        ({"page_size": 0}, "page size 0"),
        ({"page_size": 2048}, "page size 2048"),
        ({"page_size": PAGE + 1}, "page size"),
        ({"page_size": 2**31}, "wanted a page's boundary after"),
        ({"table_start": 24}, "its tables end at"),
        ({"table_start": 2**64 - 1}, "truncated"),
        ({"table_start": 2**63}, "truncated"),
    ],
)
def test_hostile_headers(patch: Patch, changes: dict[str, int], match: str) -> None:
    patch.header(**changes)
    patch.refused(match)


def test_a_table_off_the_page_boundary(patch: Patch) -> None:
    patch.header(table_start=patch.table_start - 8)
    patch.refused("wanted a page's boundary", bytes(patch.data)[:-8])


def test_tables_of_absurd_size_are_refused_before_they_are_read(patch: Patch) -> None:
    patch.count = 1 << 40
    patch.header(num_samples=1 << 40)
    patch.refused("wanted at most")


@pytest.mark.parametrize(
    ("field", "offset", "value", "match"),
    [
        (0, 0, 3, "field anchor is of type 3 .bytes., the manifest says image"),
        (2, 0, 6, "field z_anchor is of type 6 .tensor., the manifest says float32"),
        (4, 0, 5, "field label is of type 5 .json., the manifest says int"),
        (4, 0, 255, "custom"),
        (4, 0, 99, "type 99 .unknown."),
        (1, 1, ord("P"), "field 1 is named b'Positive', the manifest says 'positive'"),
        (0, 1 + 6, 27, r"field 0 is named b'anchor\\x1b'"),
        (0, 1 + 15, 65, "field 0 is named"),
        (0, 17, 1, "field anchor has other arguments"),
        (2, 17, 6, "field z_anchor has other arguments"),  # its shape
        (2, 17 + 8, 1, "field z_anchor has other arguments"),  # its rank
        (2, 17 + 256, 255, "field z_anchor has other arguments"),  # the length of its type
        (2, 17 + 264 + 7, ord("i"), "field z_anchor has other arguments"),  # <i4
        (3, 1040, 1, "field z_positive has other arguments"),
    ],
)
def test_hostile_descriptors(patch: Patch, field: int, offset: int, value: int, match: str) -> None:
    patch.data[24 + 1041 * field + offset] = value
    patch.refused(match)


def test_a_file_of_other_fields(originals: dict[str, Path]) -> None:
    fields = read_manifest(originals["jpeg"]).fields
    with pytest.raises(DatasetError, match="6 fields, the manifest has 8"):
        check_beton(originals["raw"] / "shard-00000.beton", fields, 3, 0)


# --- the records


@pytest.mark.parametrize(
    ("part", "value", "match"),
    [
        ("mode", 0, "sample 1: positive has mode 0, wanted 1"),
        ("mode", 7, "mode 7"),
        ("height", 65535, "sample 1: positive has height 65535, wanted 8"),
        ("width", 0, "sample 1: positive has width 0, wanted 6"),
    ],
)
def test_hostile_images(patch: Patch, part: str, value: int, match: str) -> None:
    patch.records["positive"][part][1] = value
    patch.refused(match)


def test_indices(patch: Patch) -> None:
    patch.records["index"][2] = 7
    patch.refused("sample 2 has index 7, wanted 2")


def test_indices_of_another_shard(raw: Path, patch_of: Patch) -> None:
    patch = patch_of(raw, 1)
    patch.first = 0
    patch.refused("sample 0 has index 3, wanted 0")
