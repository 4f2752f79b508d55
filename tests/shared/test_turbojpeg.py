"""JPEG files: the same bytes from every encoder that an installation may have."""

from __future__ import annotations

import hashlib
import io
import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from genrep.images import turbojpeg

SHAPES = [(1, 1), (7, 5), (16, 16), (33, 17), (128, 96)]
QUALITIES = [1, 50, 75, 90, 95, 96, 100]


def picture(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)
    noise[: height // 2] //= 8
    return noise


LIBRARY = turbojpeg.search()
needs_libturbojpeg = pytest.mark.skipif(LIBRARY is None, reason="without libturbojpeg")


@pytest.fixture(params=["pillow", pytest.param("libturbojpeg", marks=needs_libturbojpeg)])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs with each."""
    monkeypatch.setattr(turbojpeg, "library", lambda: LIBRARY if request.param == "libturbojpeg" else None)
    return request.param


@needs_libturbojpeg
@pytest.mark.parametrize("full_chroma", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_libturbojpeg_and_pillow_write_the_same_bytes(
    shape: tuple[int, int], full_chroma: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turbojpeg, "library", lambda: LIBRARY)
    image = picture(*shape)
    for quality in QUALITIES:
        for view in (image, image[::-1, ::-1]):  # not contiguous
            theirs = turbojpeg._by_pillow(view, quality, full_chroma)
            assert turbojpeg._by_libturbojpeg(view, quality, full_chroma) == theirs, quality


@pytest.mark.ffcv
@pytest.mark.parametrize("full_chroma", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_opencv_writes_the_same_bytes(shape: tuple[int, int], full_chroma: bool) -> None:
    """It wrote the datasets of before, and writes those of FFCV."""
    import cv2

    image, factor = picture(*shape), cv2.IMWRITE_JPEG_SAMPLING_FACTOR
    chroma = [factor, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444] if full_chroma else []
    for quality in QUALITIES:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, *chroma]
        theirs = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)[1].tobytes()
        assert turbojpeg.encode_jpeg(image, quality, full_chroma=full_chroma) == theirs, quality


@pytest.mark.usefixtures("encoder")
def test_the_bytes_are_known() -> None:
    digest = hashlib.sha256()
    for shape in SHAPES:
        for quality in QUALITIES:
            for full_chroma in (False, True):
                digest.update(turbojpeg.encode_jpeg(picture(*shape), quality, full_chroma=full_chroma))
    assert digest.hexdigest() == "3266a9bbabdf1710a08a0bb0e85605161461409bd1a97659da64dab9eecfe2d1"


@pytest.mark.usefixtures("encoder")
def test_the_chroma_is_what_was_asked_for() -> None:
    layers = {}
    for full_chroma in (False, True):
        data = turbojpeg.encode_jpeg(picture(32, 32), 90, full_chroma=full_chroma)
        layers[full_chroma] = Image.open(io.BytesIO(data)).layer[0][1:3]  # sampling factors of luma
    assert layers == {False: (2, 2), True: (1, 1)}


@pytest.mark.usefixtures("encoder")
def test_several_threads_encode_at_a_time() -> None:
    images = [picture(200 + i, 300) for i in range(4)]
    wanted = [turbojpeg._by_pillow(image, 90, True) for image in images]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if turbojpeg.encode_jpeg(images[i], 90, full_chroma=True) != wanted[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_encoder_is_named(encoder: str) -> None:
    named = {"libturbojpeg": "libturbojpeg.so", "pillow": "pillow, libjpeg-turbo "}
    assert turbojpeg.jpeg_encoder().startswith(named[encoder])


def test_a_library_that_lacks_something_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    search = turbojpeg.search
    monkeypatch.setattr(turbojpeg, "SONAMES", ("libc.so.6", "libnothing.so.0"))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    assert search() is None
