"""verify at level full: files that agree with their digests, but do not hold what they should."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from verifying import lines, overwrite

from genrep.datasets_manifest import layout, shard_checks
from genrep.datasets_manifest.manifest import read_manifest

PAGE = 2 << 20
Reseal = Callable[..., None]


def pointer(folder: Path, k: int, i: int, name: str) -> int:
    """Where the value of a field of a shard's sample lies."""
    manifest = read_manifest(folder)
    record = layout.record_dtype(manifest.fields)
    start = layout.HEADER.size + layout.DESCRIPTOR.size * len(manifest.fields)
    data = (folder / manifest.shards[k].name).read_bytes()
    value = np.frombuffer(data, record, count=manifest.shards[k].count, offset=start)[name][i]
    return int(value if value.dtype.names is None else value["data_ptr"])


def test_jpegs_that_do_not_decode(jpeg: Path, reseal: Reseal) -> None:
    start = pointer(jpeg, 0, 1, "positive")
    overwrite(jpeg / "shard-00000.beton", start, bytes(100))
    reseal(jpeg)
    assert lines(jpeg, "bytes") == []
    (line,) = lines(jpeg, "full")
    assert line.startswith("shard-00000.beton: sample 1: positive is not a readable JPEG")


def test_jpegs_cut_short(jpeg: Path, reseal: Reseal) -> None:
    start, after = pointer(jpeg, 0, 2, "anchor"), pointer(jpeg, 0, 2, "positive")
    middle = (start + after) // 2
    overwrite(jpeg / "shard-00000.beton", middle, bytes(after - middle))
    reseal(jpeg)
    assert all("sample 2: anchor is not a readable JPEG" in line for line in lines(jpeg, "full"))


def other_jpeg(size: tuple[int, int], mode: str, length: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format="JPEG", quality=1)
    assert len(buffer.getvalue()) <= length
    return buffer.getvalue().ljust(length, b"\0")


@pytest.mark.parametrize(
    ("size", "mode", "reason"),
    [((24, 17), "RGB", "a JPEG of 17 x 24, wanted 16 x 24"), ((24, 16), "L", "a JPEG of 16 x 24 L")],
)
def test_jpegs_of_another_size_or_mode(
    jpeg: Path, reseal: Reseal, size: tuple[int, int], mode: str, reason: str
) -> None:
    start, after = pointer(jpeg, 0, 0, "anchor"), pointer(jpeg, 0, 0, "positive")
    overwrite(jpeg / "shard-00000.beton", start, other_jpeg(size, mode, after - start))
    reseal(jpeg)
    (line,) = lines(jpeg, "full")
    assert f"sample 0: anchor is {reason}" in line


def test_latents_that_are_not_those_of_the_record(raw: Path, reseal: Reseal) -> None:
    overwrite(raw / "shard-00001.beton", pointer(raw, 1, 0, "z_positive"), b"\1\2\3\4")
    reseal(raw, 1)
    assert lines(raw, "bytes") == []
    (line,) = lines(raw, "full")
    assert line.startswith("shard-00001.beton: latents_sha256 is ")


def test_many_broken_images_are_counted(jpeg: Path, reseal: Reseal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_checks, "MAX_FAULTS_PER_SHARD", 2)
    for i in range(3):
        overwrite(jpeg / "shard-00000.beton", pointer(jpeg, 0, i, "positive_1"), bytes(4))
    reseal(jpeg)
    found = lines(jpeg, "full")
    assert len(found) == 3
    assert found[-1] == "shard-00000.beton: 1 more images cannot be decoded"


def test_a_shard_that_grows_while_it_is_read(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def growing(descriptor: int, buffers: list[Any], offset: int) -> int:
        if len(buffers[0]) == shard_checks.BLOCK:  # hashing
            os.truncate(raw / "shard-00000.beton", 3 * PAGE)
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", growing)
    assert "shard-00000.beton: grew while it was read" in lines(raw)


def test_nobody_waits_for_samples_after_the_end(jpeg: Path) -> None:
    manifest, stop, read = read_manifest(jpeg), Event(), []
    shard = manifest.shards[0]
    with shard_checks.open_shard(jpeg, manifest, shard) as beton:
        real = beton.read

        def ending(i: int, name: str) -> Any:
            read.append(i)
            stop.set()
            return real(i, name)

        beton.read = ending  # type: ignore[method-assign]
        with pytest.raises(shard_checks.CheckStopped):
            list(shard_checks.content_faults(beton, manifest, shard, lambda count: None, stop))
    assert set(read) == {0}
