"""Which images and masks a folder holds; what is wrong with them is said in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrep.cli import invoke
from genrep.errors import DataError
from genrep.evaluate.segmentation.layout import SegmentationSplit, check_readable, find_layout, read_splits
from genrep.papers.cli import group

from .conftest import drawn, write_folder, write_voc


def read(
    root: Path, classes: int | None = 3, reduce: bool | None = None
) -> tuple[SegmentationSplit, SegmentationSplit]:
    return read_splits(root, (None, None), classes, reduce)


def test_pascal_vocs_layout(voc: Path) -> None:
    train, test = read(voc, None)
    assert (train.name, test.name, len(train), len(test)) == ("train", "val", 12, 5)
    assert train.classes[0] == "background" and train.classes[20] == "tvmonitor" and len(train.classes) == 21
    image, mask = test.open(0)
    wanted = np.asarray(drawn(0, "val")[1])
    assert image.mode == "RGB" and (mask == wanted).all() and set(np.unique(mask)) == {0, 1, 2, 255}
    check_readable(train)


def test_ade20ks_layout(tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    for split, count in (("training", 2), ("validation", 1)):
        for folder in (root / "images" / split, root / "annotations" / split):
            folder.mkdir(parents=True)
        for number in range(count):
            drawn(number, split)[0].save(root / "images" / split / f"ADE_{number}.jpg")
            mask = np.asarray(drawn(number, split)[1]).copy()
            mask[0, 0], mask[mask == 255] = 150, 0
            Image.fromarray(mask).save(root / "annotations" / split / f"ADE_{number}.png")
    (root / "objectInfo150.txt").write_text("Idx\n")
    train, test = read(root, None)
    assert (train.name, test.name, len(train.classes), train.reduce_zero_label) == ("training", "validation", 150, True)
    mask = train.open(0)[1]
    assert set(np.unique(mask)) == {0, 1, 149, 255}  # 1, 2, 150 and other
    assert read(root, 3, False)[0].classes == ("0", "1", "2")
    with pytest.raises(DataError, match=r"ADE_0\.png: holds index 150; wanted 0 to 2, or 255"):
        read(root, 3, False)[0].open(0)


@pytest.mark.parametrize("inner", [False, True])
def test_a_plain_folder(tmp_path: Path, inner: bool) -> None:
    root = write_folder(tmp_path / "own", {"train": 2, "test": 1, "val": 1})
    if inner:
        for split in ("train", "test", "val"):
            (root / split).mkdir()
            (root / "images" / split).rename(root / split / "images")
            (root / "masks" / split).rename(root / split / "labels")
    train, test = read(root)
    assert (train.name, test.name, len(train), len(test)) == ("train", "test", 2, 1)
    assert read_splits(root, (None, "val"), 3, None)[1].name == "val"
    assert train.classes == ("0", "1", "2")
    assert read_splits(root, (None, None), ["a", "b", "c"], True)[0].reduce_zero_label
    assert len(train.inventory) == 2 and train.inventory.word == "mask"
    with pytest.raises(DataError, match="does not tell its classes; give classes"):
        read(root, None)
    with pytest.raises(DataError, match="no images and masks of split other; this folder has test, train, val"):
        read_splits(root, (None, "other"), 3, None)


def test_masks_of_few_and_of_16_bits(own_shapes: Path) -> None:
    wanted = np.asarray(drawn(0, "train")[1]) % 2
    path = own_shapes / "masks/train/00.png"
    for image in (Image.fromarray(wanted.astype(bool)), Image.fromarray(wanted.astype(np.uint16))):
        image.save(path)
        assert (read(own_shapes)[0].mask(0) == wanted).all()
    Image.fromarray(wanted.astype(np.uint16) * 300).save(path)
    with pytest.raises(DataError, match=r"00\.png: holds indices from 0 to 300; wanted 0 to 255"):
        read(own_shapes)[0].mask(0)


def small_mask(root: Path) -> None:
    Image.fromarray(np.zeros((8, 9), dtype=np.uint8)).save(root / "masks/train/01.png")


def no_mask(root: Path) -> None:
    (root / "masks/train/01.png").unlink()


def rgb_mask(root: Path) -> None:
    Image.open(root / "masks/train/01.png").convert("RGB").save(root / "masks/train/01.png")


def index_too_large(root: Path) -> None:
    mask = np.asarray(Image.open(root / "masks/train/01.png")).copy()
    mask[3, 3] = 3
    Image.fromarray(mask).save(root / "masks/train/01.png")


def no_images(root: Path) -> None:
    for path in (root / "images/train").iterdir():
        path.unlink()


def two_masks(root: Path) -> None:
    Image.open(root / "masks/train/01.png").save(root / "masks/train/01.bmp")


def no_image(root: Path) -> None:
    (root / "images/train/01.png").write_bytes(b"no image")


def damaged_image(root: Path) -> None:
    path = root / "images/train/01.png"
    path.write_bytes(path.read_bytes()[:900])


def strip(root: Path) -> None:
    for kind in ("images", "masks"):
        Image.new("RGB" if kind == "images" else "L", (500, 4)).save(root / kind / "train/01.png")


def no_test(root: Path) -> None:
    (root / "masks/val").rename(root / "masks/later")


SPOILT = {
    small_mask: r"masks/train/01\.png: is 9x8, but its image 01\.png is 46x44; wanted a mask of the image's size",
    no_mask: r"masks/train/01\.png: no such mask, but there is an image 01\.png",
    rgb_mask: r"masks/train/01\.png: an image of mode RGB; wanted a mask with one class index a pixel \(8-bit gray or a pal",
    index_too_large: r"masks/train/01\.png: holds index 3; wanted 0 to 2, or 255 for void; give more --classes, or mend",
    no_images: r"images/train: no images \(",
    two_masks: r"masks/train: 01\.bmp and 01\.png are masks of one image",
    no_image: r"images/train/01\.png: not a readable image",
    damaged_image: r"images/train/01\.png: not a readable image",
    strip: r"images/train/01\.png: is 500x4; wanted sides that differ by a factor of at most 20",
    no_test: r"--data \S+: none of its splits \(train\) is called test or val or valid or validation; give --test-split",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_what_is_wrong_is_said_in_one_line(
    own_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: object
) -> None:
    spoil(own_shapes)  # type: ignore[operator]
    arguments = ["--random-init", "--arch", "resnet18:width=8", "--data", str(own_shapes), "--classes", "3"]
    assert invoke(group, ["segmentation", *arguments, "--preset", "small", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert re.search(SPOILT[spoil], said[-1]) and not [line for line in said if "Traceback" in line], said  # type: ignore[index]


def test_of_several_faults_the_others_are_named(own_shapes: Path) -> None:
    small_mask(own_shapes)
    (own_shapes / "images/train/02.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"is 9x8, .*; so are 1 more of the split: 02\.png"):
        check_readable(read(own_shapes)[0])


def test_files_that_are_passed_over_are_said(own_shapes: Path) -> None:
    (own_shapes / "images/train/notes.txt").write_text("")
    (own_shapes / "images/train/00.png").unlink()
    (remark, other) = read(own_shapes)[0].remarks
    assert "passed over 1 .txt (train/notes.txt)" in remark
    assert "1 masks without an image, e.g. 00.png" in other


def test_folders_of_no_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_layout(tmp_path / "none")
    with pytest.raises(DataError, match="wanted ImageSets/Segmentation"):
        find_layout(tmp_path)
    write_voc(tmp_path / "VOCdevkit/VOC2012", {"train": 1})
    with pytest.raises(DataError, match=r"; \S+VOC2012 may be meant"):
        find_layout(tmp_path)


def test_lists_of_pascal_voc(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC", {"train": 2, "val": 1})
    for text, message in (
        ("", "no images; wanted one a line"),
        ("train_00\ntrain_00\n", "names an image twice"),
        ("../x\n", "wanted the name of an image of this folder"),
        ("absent\n", "JPEGImages/absent: no such image"),
    ):
        (root / "ImageSets/Segmentation/train.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read(root, None)
    with pytest.raises(DataError, match="no such list; this folder has train, val"):
        read_splits(root, ("trainval", None), None, None)
