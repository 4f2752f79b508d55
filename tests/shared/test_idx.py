"""MNIST's format from files that are whole, cut, inflated, or claim what they do not hold."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest

from genrep.errors import DataError
from genrep.images import idx


def file_of(*shape, values=None, kind=8):
    header = bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return header + (bytes(range(int(np.prod(shape)))) if values is None else values)


@pytest.mark.parametrize("packed", [False, True])
def test_values_are_read_in_their_shape(tmp_path, packed):
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(file_of(2, 3, 4)) if packed else file_of(2, 3, 4))
    assert np.array_equal(idx.read(path, 3), np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an IDX file of bytes with 3 dimensions"),
        (file_of(2, 3, 4)[:15], "not an IDX file of bytes with 3 dimensions"),
        (file_of(2, 12), "not an IDX file of bytes with 3 dimensions"),
        (file_of(2, 3, 4, kind=13), "not an IDX file of bytes with 3 dimensions"),
        (file_of(2, 3, 4)[:-1], r"23 bytes of values, wanted \(2, 3, 4\)"),
        (file_of(2, 3, 4) + b"x", r"more than 24 bytes of values, wanted \(2, 3, 4\)"),
        (
            file_of(2**32 - 1, 2**32 - 1, 2**32 - 1, values=b"x"),
            "its header claims 79,228,162,458,924,105,385,300,197,375",
        ),
        (
            file_of(0, 2**32 - 1, 2**32 - 1, values=b""),
            r"its header claims no values, but \(0, 4294967295, 4294967295\)",
        ),
        (file_of(60_000, 28, 28, values=b"x"), r"1 bytes of values, wanted \(60000, 28, 28\)"),
    ],
)
def test_what_a_header_claims_and_the_file_does_not_hold_is_refused(tmp_path, data, words, packed):
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError, match=words) as caught:
        idx.read(path, 3)
    assert str(path) in str(caught.value)


def test_a_bomb_is_not_inflated(tmp_path):
    """200 MB of zeros in 200 KB, behind a header that claims 24 bytes."""
    path = tmp_path / "images.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(file_of(2, 3, 4))
        for _ in range(200):
            file.write(bytes(1_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 24 bytes"):
        idx.read(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:30] + b"\xff" * 9, lambda data: b"\x1f\x8b"]
)
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(file_of(2, 3, 4))))
    with pytest.raises(DataError, match=r"images\.gz: "):
        idx.read(path, 3)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "images")
    with pytest.raises(DataError, match="wanted a regular file"):
        idx.read(tmp_path / "images", 3)
