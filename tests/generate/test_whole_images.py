"""Real images stored whole: each sample of a shard has a size of its own."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.datasets_manifest.beton import check_beton
from genrep.datasets_manifest.cli import group as manifest_cli
from genrep.datasets_manifest.schema import field_table
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, ManifestError, RecipeError
from genrep.generate.build.from_folder import FolderConfig, build_from_folder
from genrep.generate.cli import cli
from genrep.generate.sources.real import whole_shapes

SIZES = ((40, 60), (90, 30), (20, 24), (33, 100), (64, 64))  # height, width


def smooth(height: int, width: int, value: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows + value, columns + value, np.full_like(rows, value)], axis=-1).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, (height, width) in enumerate(SIZES):
        path = tmp_path / f"photos/{'cat' if k < 3 else 'dog'}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth(height, width, 20 * k)).save(path)
    return tmp_path / "photos"


def build(photos: Path, out: Path, **options: Any) -> Any:
    return build_from_folder(FolderConfig(data=str(photos), out=out, **{"processes": 1, "shorter_side": 32, **options}))


@pytest.mark.parametrize("encoding", ["raw", "jpeg:95:444"])
def test_each_image_keeps_its_shape(photos: Path, tmp_path: Path, encoding: str) -> None:
    manifest = build(photos, tmp_path / "out", encoding=encoding, shard_size="2").manifest
    assert manifest.image_fields == [
        {"name": "anchor", "kind": "image", "max_shape": [90, 96, 3], "encoding": encoding}  # 30 pixels stay 30
    ]
    assert manifest.recipe["image"] | {"encoding": None} == {
        **dict.fromkeys(("height", "width", "size", "crop", "encoding")),
        "shorter_side": 32,
    }
    assert verify(tmp_path / "out", "full") == []
    pairs = list(datasets_manifest.open(tmp_path / "out"))
    assert [pair["anchor"].shape[:2] for pair in pairs] == [(32, 48), (90, 30), (20, 24), (32, 96), (32, 32)]
    for k in (1, 2):  # not enlarged: the very pixels
        difference = np.abs(pairs[k]["anchor"].astype(int) - smooth(*SIZES[k], 20 * k))
        assert difference.max() <= (0 if encoding == "raw" else 6)
    assert abs(int(pairs[0]["anchor"][16, 24, 0]) - 20) <= 6  # the middle of the whole picture is the middle


def test_the_longer_side_is_torchvisions() -> None:
    from torchvision.transforms.v2.functional import resize

    for height, width in ((97, 300), (300, 97), (33, 33), (500, 375), (1200, 63)):
        wanted = resize(Image.new("L", (width, height)), [31]).size[::-1]
        assert tuple(whole_shapes(np.array([[height, width]]), 31)[0]) == wanted


def test_no_side_leaves_the_formats_bounds() -> None:
    found = whole_shapes(np.array([[1, 9000], [3, 5], [20000, 2000], [8, 8192]]), 256)
    assert found.tolist() == [[8, 8192], [8, 8], [2560, 256], [8, 8192]]


def test_images_that_end_up_in_one_size_make_an_ordinary_set(tmp_path: Path) -> None:
    (tmp_path / "cars").mkdir()
    for k, scale in enumerate((1, 2)):
        Image.fromarray(smooth(48 * scale, 64 * scale, k)).save(tmp_path / f"cars/{k}.png")
    manifest = build(tmp_path / "cars", tmp_path / "out", shorter_side=48).manifest
    assert manifest.image_fields[0]["shape"] == [48, 64, 3]
    rectangle = build(tmp_path / "cars", tmp_path / "same", shorter_side=None, size="48x64").manifest
    pixels = [datasets_manifest.open(tmp_path / name)[0]["anchor"] for name in ("out", "same")]
    assert np.array_equal(*pixels) and np.array_equal(pixels[0], smooth(48, 64, 0))
    assert rectangle.id != manifest.id


@pytest.mark.slow
@pytest.mark.ffcv
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoding", ["raw", "jpeg:95:444"])
def test_plain_ffcv_crops_from_the_whole_picture(photos: Path, tmp_path: Path, encoding: str) -> None:
    from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
    from ffcv.loader import Loader, OrderOption

    build(photos, tmp_path / "out", encoding=encoding, shard_size="5")
    pipelines = {"anchor": [CenterCropRGBImageDecoder((16, 16), 1)], "label": [IntDecoder()], "index": [IntDecoder()]}
    path = str(tmp_path / "out/shard-00000.beton")
    loader = Loader(path, batch_size=5, num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    images, labels, _ = next(iter(loader))
    assert labels.flatten().tolist() == [0, 0, 0, 1, 1]
    for image, pair in zip(images, datasets_manifest.open(tmp_path / "out")):
        whole = pair["anchor"].astype(int)
        assert np.abs(image.mean((0, 1)) - whole.mean((0, 1))).max() < 6  # ramps: the centre's mean is the picture's


def test_a_file_of_varying_images_passes_and_its_tables_are_held_to_it(
    tmp_path: Path, write_either: Callable[..., None]
) -> None:
    rows = [(smooth(*size, k), -1, k) for k, size in enumerate(SIZES)]
    path = tmp_path / "a.beton"
    write_either(path, field_table((90, 100), "raw", varying=True), rows, 2 << 20)
    check_beton(path, field_table((90, 100), "raw", varying=True), 5, 0)
    with pytest.raises(DatasetError, match="sample 1: anchor has height 90, wanted 8 to 89"):
        check_beton(path, field_table((89, 100), "raw", varying=True), 5, 0)
    with pytest.raises(DatasetError, match="sample 1: anchor has height 90, wanted 40"):
        check_beton(path, field_table((40, 60), "raw"), 5, 0)
    record = path.read_bytes()
    at = 24 + 3 * 1041  # the first record: mode, width, height
    path.write_bytes(record[: at + 1] + (61).to_bytes(2, "little") + record[at + 3 :])
    with pytest.raises(DatasetError, match="sample 0: anchor has 7200 bytes, wanted 7320"):
        check_beton(path, field_table((90, 100), "raw", varying=True), 5, 0)
    path.write_bytes(record[: at + 1] + (3).to_bytes(2, "little") + record[at + 3 :])
    with pytest.raises(DatasetError, match="sample 0: anchor has width 3, wanted 8 to 100"):
        check_beton(path, field_table((90, 100), "raw", varying=True), 5, 0)


def test_a_jpeg_of_another_size_than_its_record_is_found(photos: Path, tmp_path: Path) -> None:
    build(photos, tmp_path / "out", encoding="jpeg:95", shard_size="5")
    path = tmp_path / "out/shard-00000.beton"
    data = bytearray(path.read_bytes())
    at = 24 + 3 * 1041
    data[at + 1 : at + 3] = (47).to_bytes(2, "little")  # was 48
    path.write_bytes(data)
    reasons = [problem.reason for problem in verify(tmp_path / "out", "full")]
    assert any("sample 0: anchor is a JPEG of 32 x 48, wanted 32 x 47" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [90, 97, 3]}, "has the unknown key"),
        ({"max_shape": [90, 9000, 3]}, "max_shape is 9000, wanted an integer from 8 to 8192"),
        ({"max_shape": [7, 97, 3]}, "max_shape is 7, wanted an integer from 8"),
        ({"max_shape": [90, 97]}, r"max_shape is .*, wanted \[height, width, 3\]"),
    ],
)
def test_a_wrong_field_table_is_refused(change: dict[str, Any], words: str) -> None:
    fields = field_table((90, 97), "raw", varying=True)
    fields[0] |= change
    with pytest.raises(ManifestError, match=words):
        datasets_manifest.schema.check_fields(fields, "manifest")


@pytest.mark.parametrize("encoding", ["raw", "jpeg:95"])
def test_exports_show_and_cards(photos: Path, tmp_path: Path, capsys: Any, encoding: str) -> None:
    out = tmp_path / "out"
    build(photos, out, encoding=encoding, shard_size="5")
    for name in ("folder", "webdataset", "parquet"):
        assert invoke(manifest_cli, ["export", str(out), "--format", name, "--out", str(tmp_path / name)]) == 0
    wanted = [(48, 32), (30, 90), (24, 20), (96, 32), (32, 32)]
    pictures = [path.read_bytes() for path in sorted((tmp_path / "folder/anchor/00000").iterdir())]
    assert [Image.open(io.BytesIO(data)).size for data in pictures] == wanted
    with tarfile.open(tmp_path / "webdataset/pairs-000000.tar") as tar:
        pictures = [tar.extractfile(entry).read() for entry in tar if "anchor" in entry.name]  # type: ignore[union-attr]
    assert [Image.open(io.BytesIO(data)).size for data in pictures] == wanted
    capsys.readouterr()
    assert invoke(manifest_cli, ["show", str(out)]) == 0
    assert re.search(rf"field anchor +image up to 90 x 96 x 3 {encoding}", capsys.readouterr().out)
    assert "5 images, up to 90 x 96 pixels" in (out / "README.md").read_text()
    assert "each image has a size of its own" in json.dumps(json.loads((out / "croissant.json").read_text()))
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 5 * 90


def test_options_that_exclude_each_other(tmp_path: Path, capsys: Any) -> None:
    for options, words in (
        ({"size": "32"}, "size 32 with shorter_side 32: wanted one of the two"),
        ({"crop": "none"}, "crop none: belongs to size"),
        ({"shorter_side": 7}, "shorter_side 7: wanted 8 to 8192 pixels"),
    ):
        with pytest.raises(RecipeError, match=words):
            build(tmp_path, tmp_path / "out", **options)
    for arguments, words in (
        (["--size", "32", "--shorter-side", "32"], "--size 32 with --shorter-side 32: wanted one of the two"),
        (["--crop", "none", "--shorter-side", "32"], "--crop none: belongs to --size"),
        (["--shorter-side", "7"], "--shorter-side 7: wanted 8 to 8192 pixels"),
    ):
        assert invoke(cli, ["from-folder", ".", *arguments, "--out", "out"]) == 1
        assert words in capsys.readouterr().err
    assert invoke(cli, ["from-folder", ".", "--shorter-side", "x", "--out", "out"]) == 2


@pytest.mark.slow
def test_bytes_do_not_depend_on_processes_and_a_second_call_finds_the_census(photos: Path, tmp_path: Path) -> None:
    shards = [
        [shard.sha256 for shard in build(photos, tmp_path / f"{n}", processes=n, shard_size="2").manifest.shards]
        for n in (1, 2)
    ]
    assert shards[0] == shards[1]
    assert build(photos, tmp_path / "1", shard_size="2").built_pairs == 0
