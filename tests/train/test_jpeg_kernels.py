"""Pictures of a stranger's shard: decoded whole, or refused; never with what lay in the buffer before."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from genrep.images import turbojpeg
from genrep.train.data import kernels
from genrep.train.data.kernels import BROKEN, GOOD, MANY_SCANS, NO_JPEG, OTHER_SIZE

SIDE = 32
MARKERS = {"RST0": b"\xff\xd0", "RST7": b"\xff\xd7", "TEM": b"\xff\x01", "fill": b"\xff\xff\xff", "none": b""}


def picture(side: int = SIDE, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decoders() -> dict[str, Callable[..., int]]:
    """Those that this machine has."""
    library = turbojpeg.search()
    ours = {} if library is None else {"libturbojpeg": kernels._by_libturbojpeg(library)}
    return ours | {"simplejpeg": kernels._by_simplejpeg()}


DECODERS = decoders()
Decode = Callable[..., tuple[int, NDArray[np.uint8]]]


def decoded(decoder: str, data: bytes, before: int = 77, sizes: type = np.int64) -> tuple[int, NDArray[np.uint8]]:
    """The fault, and the buffer, which was full of ``before``."""
    memory, out = np.frombuffer(data, dtype=np.uint8), np.full((1, SIDE, SIDE, 3), before, dtype=np.uint8)
    one, table = np.array([0]), np.array([[0]])
    where = (np.array([memory.ctypes.data]), np.array([len(data)]), 1, one, one, table, SIDE, SIDE)
    targets, strides = np.array([out.ctypes.data]), np.array([out.strides[0]])
    return DECODERS[decoder](table, np.array([[len(data)]], sizes), *where, targets, strides), out[0]


@pytest.fixture(params=DECODERS)
def decode(request: pytest.FixtureRequest) -> Decode:
    return partial(decoded, request.param)


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_without_a_length_are_understood(decode: Decode, marker: str) -> None:
    data = picture()
    fault, pixels = decode(data[:2] + MARKERS[marker] + data[2:])
    assert fault == GOOD
    assert np.abs(pixels.astype(int) - np.asarray(Image.open(io.BytesIO(data))).astype(int)).max() <= 3


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("side", [8, 16, 64])
def test_a_size_told_where_the_decoder_does_not_look_is_not_believed(decode: Decode, marker: str, side: int) -> None:
    """Behind a marker without a length two bytes are no length: there a frame header of the wanted size lies in wait."""
    small = picture(side)
    data = small[:2] + MARKERS[marker] + small[2:]
    frame = b"\xff\xc0\x00\x11\x08" + SIDE.to_bytes(2) + SIDE.to_bytes(2) + b"\x03" + bytes(12)
    for at in {4 + int.from_bytes(data[4:6]), 4 + int.from_bytes(data[6:8]), len(data)}:
        evil = data.ljust(at, b"\0") + frame
        fault, pixels = decode(evil)
        assert fault == OTHER_SIZE and (pixels == 77).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}], ids=str)
def test_changed_bytes_give_a_fault_or_a_whole_picture(decode: Decode, options: dict[str, bool]) -> None:
    data, stream, faults = picture(**options), np.random.default_rng(0), set()
    for _ in range(1500):
        changed = bytearray(data)
        for at in stream.integers(2, 700, stream.integers(1, 4)):
            changed[at] = stream.choice([0x00, 0x01, 0xC0, 0xC2, 0xD0, 0xD8, 0xDA, 0xFF, stream.integers(256)])
        fault, pixels = decode(bytes(changed))
        faults.add(fault)
        if fault == GOOD:
            np.testing.assert_array_equal(pixels, decode(bytes(changed), 178)[1])
    assert {GOOD, NO_JPEG, OTHER_SIZE, BROKEN} <= faults


def test_thousands_of_scans_are_not_begun(decode: Decode) -> None:
    data = picture(progressive=True)
    last = data.rindex(b"\xff\xda")
    assert decode(data)[0] == GOOD
    fault, pixels = decode(data[:-2] + data[last:-2] * 5000 + data[-2:])
    assert fault == MANY_SCANS and (pixels == 77).all()


@pytest.mark.skipif(len(DECODERS) < 2, reason="without libturbojpeg there is one decoder")
def test_all_decoders_give_the_same_pixels_and_faults() -> None:
    """The accurate DCT's, which are Pillow's too."""
    options: list[dict[str, Any]] = [
        {"quality": quality, "subsampling": s} for quality in (50, 95, 100) for s in (0, 1, 2)
    ]
    options += [{"progressive": True}, {"optimize": True}, {"mode": "L"}]
    for option in options:
        data = picture(**option)
        exact = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        for decoder in DECODERS:
            fault, pixels = decoded(decoder, data)
            assert fault == GOOD
            np.testing.assert_array_equal(pixels, exact)
    stream, data, faults = np.random.default_rng(1), picture(), set()
    for _ in range(1500):
        changed = bytearray(data[: stream.integers(4, len(data))] if stream.integers(5) == 0 else data)
        for at in stream.integers(2, len(changed), stream.integers(1, 4)):
            changed[at] = stream.integers(256)
        (ours, pixels), (theirs, others) = (decoded(decoder, bytes(changed)) for decoder in DECODERS)
        assert ours == theirs
        assert ours != GOOD or np.array_equal(pixels, others)
        faults.add(ours)
    assert {GOOD, BROKEN} <= faults


def test_a_picture_of_four_inks_is_no_picture_of_ours(decode: Decode) -> None:
    fault, pixels = decode(picture(mode="CMYK"))
    assert fault == BROKEN and (pixels == 77).all()


@pytest.mark.slow
@pytest.mark.ffcv
def test_another_kernel_is_compiled_after_ffcv_has_changed_numbas_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFCV's loader marks Numba's one type of C arrays of bytes read-only, under everybody's feet."""
    import numba
    from ffcv.memory_managers.os_cache import OSCacheManager

    library = turbojpeg.library()
    if library is None:
        pytest.skip("no libturbojpeg here")
    monkeypatch.setitem(DECODERS, "before", kernels._by_libturbojpeg(library))
    assert decoded("before", picture())[0] == GOOD
    shared = numba.uint8[::1]
    assert OSCacheManager.state_type.fget(None) is not None and not shared.mutable
    monkeypatch.setitem(DECODERS, "after", kernels._by_libturbojpeg(library))
    assert decoded("after", picture(), sizes=np.uint32)[0] == GOOD  # other types: the helpers are compiled once more
