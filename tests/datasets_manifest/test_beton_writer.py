"""BetonWriter: FFCV's own bytes, however they come; errors that are raised and leave nothing behind; little memory."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest.beton import check_beton
from genrep.datasets_manifest.beton_writer import BetonWriter
from genrep.datasets_manifest.layout import MAX_SHAPE, USUAL_PAGE
from genrep.datasets_manifest.schema import field_table
from genrep.errors import DatasetError

Fields = list[dict[str, Any]]
Columns = list[Any]
SIZES = ((8, 300), (100, 9), (33, 71), (64, 64))

# Name: fields, samples, page, and the sha256 of the file that FFCV 1.0.2 writes.
CASES: dict[str, tuple[Fields, int, int, str]] = {
    "anchors only": (
        field_table((8, 6), "raw"),
        5,
        USUAL_PAGE,
        "f95de88820c6e4a01d76782e9e221799f39cc9758bf48415a3db5d9720014c9a",
    ),
    "pairs with latents": (
        field_table((32, 32), "raw", num_positives=1, z_anchor=[512], z_positive=[512]),
        500,
        USUAL_PAGE,
        "488fc530a6e2cfdcd926bd6a2aadb8aad85608dce704a3fb9181d71e7d0655c3",
    ),
    "positives and latents of groups": (
        field_table((64, 48), "raw", num_positives=3, z_anchor=[7], z_positive=[3, 5]),
        130,
        USUAL_PAGE,
        "17bd8328fa8f72e365956a68c537daca832bd7f97f37de7eea22c50c5eedacbb",
    ),
    "pages half empty": (
        field_table((432, 432), "raw", num_positives=1, z_anchor=[4]),
        6,
        USUAL_PAGE,
        "7e9e76e191b620f3ccadc78ed9b58176ee8f8fea2be2d6986154eee1617db6cf",
    ),
    "larger pages": (
        field_table((128, 128), "raw", num_positives=1, z_anchor=[1]),
        90,
        2 * USUAL_PAGE,
        "60243d8804b98b0a220502cc1b481d451895cf2d739112129174b4490300bfcd",
    ),
    "small pages": (
        field_table((8, 8), "raw", num_positives=1, z_anchor=[16]),
        100,
        1 << 12,
        "542f4cddb2f73224caa9048adb3c6e1e2ee3d54d55413b36416a738e4828c011",
    ),
    "images that vary": (
        field_table((100, 300), "raw", varying=True),
        150,
        USUAL_PAGE,
        "d7c1993c03523134b4429dc9a2976c53a9683c95e37829f9294a20ac2ccf2b36",
    ),
    "JPEG": (
        field_table((96, 128), "jpeg:90", num_positives=1, z_anchor=[12]),
        150,
        USUAL_PAGE,
        "9b93eed477244952d19dce8589673d0ff7f83fd46de9175b1dbddc2bd31d0e14",
    ),
    "JPEG that varies": (
        field_table((100, 300), "jpeg:75", varying=True),
        60,
        1 << 16,
        "411a69d889a3899f25ae849187e2ebea13312dd591df8e38bdc8f106202b144f",
    ),
}


def columns_of(fields: Fields, count: int) -> Columns:
    """Values from a stream that NumPy keeps: noise in the first half of a picture, a ramp in the second."""
    stream, columns = np.random.RandomState(0), []
    for field in fields:
        if field["kind"] == "image":
            sizes = [SIZES[i % 4] if MAX_SHAPE in field else field["shape"][:2] for i in range(count)]
            images = [stream.randint(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
            for image in images:
                half = image[:, image.shape[1] // 2 :]
                half[:] = np.arange(half.size).reshape(half.shape) // 50 % 256
            columns.append(images if MAX_SHAPE in field else np.stack(images))
        elif field["kind"] == "float32":
            values = stream.randint(-1000, 1000, (count, *field["shape"]))
            columns.append((values / 64).astype(np.float32))
        else:
            columns.append(np.arange(count) + (7 if field["name"] == "index" else -1))
    return columns


def write(path: Path, fields: Fields, columns: Columns, page: int, batch: int) -> tuple[int, str]:
    count = len(columns[-1])
    with BetonWriter(path, fields, count, page) as writer:
        for start in range(0, count, batch):
            writer.append([column[start : start + batch] for column in columns])
        return writer.finish()


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[Fields, Columns, int, str]:
    fields, count, page, digest = CASES[request.param]
    return fields, columns_of(fields, count), page, digest


@pytest.mark.slow
@pytest.mark.ffcv
def test_the_bytes_are_those_of_ffcvs_own_writer(
    case: tuple[Fields, Columns, int, str],
    tmp_path: Path,
    write_ffcv: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields, columns, page, _ = case
    monkeypatch.setattr("ffcv.writer.MIN_PAGE_SIZE", 1 << 12)  # it refuses small pages and writes them well
    write_ffcv(tmp_path / "theirs", fields, list(zip(*columns)), page)
    write(tmp_path / "ours", fields, columns, page, 64)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.ffcv
def test_what_these_tests_read_is_what_ffcv_writes(
    originals: dict[str, Path], originals_by_ffcv: dict[str, Path]
) -> None:
    for kind, folder in originals.items():
        for path in folder.glob("*.beton"):
            assert path.read_bytes() == (originals_by_ffcv[kind] / path.name).read_bytes()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_bytes_are_known_however_samples_come(
    case: tuple[Fields, Columns, int, str], tmp_path: Path, batch: int
) -> None:
    fields, columns, page, digest = case
    size, told = write(tmp_path / "x.beton", fields, columns, page, batch)
    data = (tmp_path / "x.beton").read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (size, told)
    assert told == digest
    assert [path.name for path in tmp_path.iterdir()] == ["x.beton"]
    check_beton(tmp_path / "x.beton", fields, len(columns[-1]), 7)


FIELDS = field_table((40, 40), "raw", z_anchor=[4])
PAGE = 1 << 14


def broken(count: int) -> Iterator[tuple[type[Exception], str, Callable[[BetonWriter], object]]]:
    good = columns_of(FIELDS, count)
    large = [np.zeros((1, 80, 80, 3), np.uint8), *(column[:1] for column in good[1:])]
    floats = [good[0].astype(np.float32), *good[1:]]
    yield DatasetError, "sample 0 has 19216 bytes, its page 16384", lambda writer: writer.append(large)
    yield ValueError, "4 samples for a file of 3", lambda writer: [writer.append(good) for _ in range(2)]
    yield ValueError, "2 samples for a file of 3", lambda writer: (writer.append(good), writer.finish())
    yield TypeError, "anchor: images are uint8", lambda writer: writer.append(floats)
    yield ValueError, "argument", lambda writer: writer.append(good[:-1])


@pytest.mark.parametrize("k", range(5))
def test_what_goes_wrong_is_raised_and_leaves_nothing(tmp_path: Path, k: int) -> None:
    kind, message, fail = list(broken(2))[k]
    with pytest.raises(kind, match=message), BetonWriter(tmp_path / "x.beton", FIELDS, 3, PAGE) as writer:
        fail(writer)
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="mine"), BetonWriter(path, FIELDS, 2, PAGE) as writer:
        writer.append(columns_of(FIELDS, 2))
        raise RuntimeError("mine")
    assert path.read_bytes() == b"old"


def test_names_that_ffcv_would_cut_are_refused(tmp_path: Path) -> None:
    fields = [{**FIELDS[0], "name": "a" * 17}, *FIELDS[1:]]
    with pytest.raises(DatasetError, match="FFCV keeps 16 bytes"):
        BetonWriter(tmp_path / "x.beton", fields, 1, PAGE)


def test_a_file_of_any_length_takes_the_memory_of_a_batch(tmp_path: Path) -> None:
    fields = field_table((64, 64), "raw", num_positives=1, z_anchor=[1])
    batch = [np.zeros((16, 64, 64, 3), np.uint8)] * 2 + [np.zeros((16, 1))] * 2 + [np.zeros(16, np.int64)] * 2
    tracemalloc.start()
    try:
        with BetonWriter(tmp_path / "x.beton", fields, 2048, USUAL_PAGE) as writer:
            for _ in range(128):
                writer.append(batch)
            size, _ = writer.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 48 << 20
    assert peak < 2 << 20
