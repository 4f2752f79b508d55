"""Pixels of image files: as torchvision loads them, 16 bits scaled, and nothing else guessed."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from genrep.errors import DataError
from genrep.images.jpeg import MOST_SCANS, check_jpeg, has_many_scans
from genrep.images.reading import read_rgb, read_size

GRAY = (np.arange(32 * 48).reshape(32, 48) % 256).astype(np.uint8)
COLOUR = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], -1)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(read_rgb(path))


MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "jpg": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"),
    "webp": ("L", "P", "RGB", "RGBA", "CMYK"),
    "gif": ("1", "L", "P", "RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB"),
    "ppm": ("1", "L", "RGB", "RGBA"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_all_that_torchvision_loads_is_the_same(suffix: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.dstack([COLOUR, GRAY])).convert(mode).save(path)
    np.testing.assert_array_equal(pixels(path), np.asarray(pil_loader(str(path))))


def test_orientation_in_exif_is_left_alone_as_torchvision_leaves_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=exif)
    assert read_size(tmp_path / "a.jpg") == (32, 48) == pixels(tmp_path / "a.jpg").shape[:2]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_gray_of_16_bits_keeps_its_picture(suffix: str, tmp_path: Path) -> None:
    deep = (np.arange(32 * 48).reshape(32, 48) * 42).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), np.repeat((deep // 256)[..., None], 3, 2))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_a_channel(colour: int, channels: int, tmp_path: Path) -> None:
    """Written by hand: Pillow writes none."""
    deep = (np.arange(4 * 5 * channels).reshape(4, 5, channels) * 700).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (5).to_bytes(4, "big") + (4).to_bytes(4, "big") + bytes([16, colour, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    high = (deep // 256).astype(np.uint8)
    wanted = high[..., :3] if channels > 2 else np.repeat(high[..., :1], 3, 2)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), wanted)


def test_gray_of_16_bits_whose_zero_is_white(tmp_path: Path) -> None:
    deep = (np.arange(32 * 48).reshape(32, 48) * 42).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[..., 0], 255 - deep // 256)


@pytest.mark.parametrize(("kind", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_values_of_unknown_range_are_refused_by_name(kind: type, mode: str, tmp_path: Path) -> None:
    Image.fromarray(GRAY.astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a.tif: .* values \(mode {mode}\), whose range is not known"):
        read_rgb(tmp_path / "a.tif")


def test_the_reason_is_the_same_in_every_run(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>")
    with pytest.raises(DataError) as caught:
        read_rgb(tmp_path / "a.jpg")
    assert str(caught.value) == f"{tmp_path}/a.jpg: not a readable image (of no format that Pillow knows)"


def test_pipes_are_refused_and_links_to_files_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("pipe.png", tmp_path / "link.png")
    for name in ("pipe.png", "link.png"):
        for read in (read_rgb, read_size):
            with pytest.raises(DataError, match="wanted a regular file"):
                read(tmp_path / name)
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    os.symlink("a.png", tmp_path / "b.png")
    assert read_size(tmp_path / "b.png") == (32, 48)


def progressive(times: int) -> bytes:
    """A progressive JPEG, its last scan repeated."""
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * times + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(progressive(5000))
    with pytest.raises(DataError, match=rf"a.jpg: not a readable image \(a JPEG of more than {MOST_SCANS} scans\)"):
        read_rgb(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(progressive(20))
    assert read_rgb(tmp_path / "b.jpg").size == (48, 32)


def test_what_follows_a_picture_is_not_counted(tmp_path: Path) -> None:
    """Phones append a video: it may hold any bytes."""
    after = b"\xff\xda\0" * 500
    for data in (
        progressive(0),
        (lambda file: (Image.fromarray(COLOUR).save(file, "JPEG"), file.getvalue())[1])(io.BytesIO()),
    ):
        assert not has_many_scans(data + after) and has_many_scans(progressive(200) + after)


def test_a_size_behind_markers_without_a_length_is_the_decoders() -> None:
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "JPEG")
    data = file.getvalue()
    for marker in (b"\xff\xd0", b"\xff\xd7", b"\xff\x01", b"\xff\xff\xff"):
        check_jpeg(data[:2] + marker + data[2:], 32, 48)
        with pytest.raises(ValueError, match="is a JPEG of 32 x 48, wanted 48 x 32"):
            check_jpeg(data[:2] + marker + data[2:], 48, 32)
    for broken in (b"", data[:2], data[:40], b"\xff\xd8" + data, data[:2] + b"\xff\xd9" + data[2:], b"\xff" * 99):
        with pytest.raises(ValueError, match="its markers lead to no picture"):
            check_jpeg(broken, 32, 48)
    with pytest.raises(ValueError, match=r"is a JPEG of 50\d\d scans, wanted at most 64"):
        check_jpeg(progressive(5000), 32, 48)
