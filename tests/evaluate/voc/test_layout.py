"""What is read of a VOC folder, what is left out and said, and what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genrep.errors import DataError
from genrep.evaluate.voc.layout import read_pixels, read_split

Make = Callable[..., Path]
CAT, DOG = ("cat", (10, 5, 30, 20), 0), ("dog", (1, 1, 60, 40), 1)
# As the official files are, with parts inside an object.
OFFICIAL = """<annotation>
	<folder>VOC2007</folder>
	<filename>000005.jpg</filename>
	<source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation></source>
	<size>
		<width>60</width>
		<height>40</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>person</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>3</xmin>
			<ymin>4</ymin>
			<xmax>50</xmax>
			<ymax>40</ymax>
		</bndbox>
		<part>
			<name>head</name>
			<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax><ymax>8</ymax></bndbox>
		</part>
	</object>
</annotation>
"""


def test_boxes_classes_and_difficult(voc: Make) -> None:
    root = voc({"a": [DOG, CAT], "b": [CAT]}, {"train": "b\na\n"})
    split = read_split([root], "train")
    assert split.classes == ("cat", "dog")
    assert [image.name for image in split.images] == ["b", "a"]  # in the list's order
    a = split.images[1]
    assert (a.width, a.height) == (60, 40)
    np.testing.assert_array_equal(a.boxes, [[0, 0, 60, 40], [9, 4, 30, 20]])
    assert a.labels.tolist() == [1, 0] and a.difficult.tolist() == [True, False]
    assert not split.dropped
    assert read_pixels(a).size == (60, 40)
    assert read_split([root], "train", ["dog", "cat"]).images[1].labels.tolist() == [0, 1]


def test_an_official_file_with_parts(voc: Make) -> None:
    root = voc({"000005": []}, {"trainval": "000005\n"})
    (root / "Annotations/000005.xml").write_text(OFFICIAL)
    split = read_split([root], "trainval")
    assert split.classes == ("person",)
    np.testing.assert_array_equal(split.images[0].boxes, [[2, 3, 50, 40]])
    assert split.images[0].difficult.tolist() == [True]


@pytest.mark.parametrize(
    "text", ["a\r\nb\r\n", "a\nb", "\ufeffa\nb\n", "a  1\nb -1\n", "\na\n\nb\n\n", "a \r\nb\t0"], ids=repr
)
def test_lists_with_any_line_ends_and_labels(voc: Make, text: str) -> None:
    root = voc({"a": [CAT], "b": [CAT]}, {"test": text})
    assert [image.name for image in read_split([root], "test").images] == ["a", "b"]


def test_what_is_dropped_is_said(voc: Make) -> None:
    objects = [
        ("cat", (10.5, 5.25, 30.75, 20), 0),  # fractions stay
        ("cat", (10, 5, 10, 20), 0),
        ("cat", (30, 5, 10, 20), 0),
        ("cat", (70, 5, 80, 20), 0),
        ("cat", (50, -3, 80, 20), 0),
        ("cat", (0, 0, 5, 5), 0),  # counted from 0: no remark
        ("cow", (10, 5, 30, 20), 0),
    ]
    root = voc({"a": objects, "b": [CAT]}, {"train": "a\nb\n"})
    split = read_split([root], "train", ["cat"])
    np.testing.assert_allclose(split.images[0].boxes, [[9.5, 4.25, 30.75, 20], [49, 0, 60, 20], [0, 0, 5, 5]])
    assert split.remarks() == [
        "train: 1 object dropped: a box of no area, e.g. in a.xml",
        "train: 1 object dropped: a box with xmax < xmin or ymax < ymin (corners swapped, or x, y, width, height), "
        "e.g. in a.xml",
        "train: 1 object dropped: a box outside its image, e.g. in a.xml",
        "train: 1 object cut: a box that reaches out of its image, e.g. in a.xml",
        "train: 1 object dropped: not of the classes asked for, e.g. in a.xml",
    ]


def test_several_folders_are_one_split(voc: Make, tmp_path: Path) -> None:
    one = voc({"a": [CAT]}, {"trainval": "a\n"})
    one.rename(tmp_path / "first")
    two = voc({"a": [DOG], "c": [CAT]}, {"trainval": "a\nc\n"})
    split = read_split([tmp_path / "first", two], "trainval")
    assert [image.path.parent.parent.name for image in split.images] == ["first", "VOC2007", "VOC2007"]
    assert split.classes == ("cat", "dog")


def test_a_size_that_is_not_told_is_the_images(voc: Make) -> None:
    root = voc({"a": [CAT]}, {"train": "a\n"})
    path = root / "Annotations/a.xml"
    path.write_text(re.sub("<width>60", "<width>0", path.read_text()))
    image = read_split([root], "train").images[0]
    assert (image.width, image.height) == (60, 40)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return change


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n<annotation>'


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit("Annotations/a.xml", "<annotation>", BOMB), "a.xml: has a DOCTYPE"),
        (edit("Annotations/a.xml", "</annotation>", ""), "a.xml: not readable as XML"),
        (edit("Annotations/a.xml", "cat", "&unknown;"), "a.xml: not readable as XML"),
        (lambda r: (r / "Annotations/a.xml").write_bytes(b"\x00\xff"), "a.xml: not readable as XML"),
        (lambda r: (r / "Annotations/a.xml").write_text("<html></html>"), "root element is <html>"),
        (edit("Annotations/a.xml", "<name>cat</name>", ""), "an object without a name"),
        (edit("Annotations/a.xml", "<xmin>10</xmin>", "<xmin>ten</xmin>"), "xmin of an object 'cat' is 'ten'"),
        (edit("Annotations/a.xml", "<xmax>30</xmax>", ""), "xmax of an object 'cat' is missing"),
        (edit("Annotations/a.xml", "<ymax>20</ymax>", "<ymax>nan</ymax>"), "ymax of an object 'cat' is 'nan'"),
        (edit("Annotations/a.xml", "<difficult>0", "<difficult>yes"), "difficult of an object 'cat' is 'yes'"),
        (lambda r: (r / "Annotations/a.xml").unlink(), "train.txt: line 1: 'a' has no Annotations/a.xml"),
        (lambda r: (r / "JPEGImages/a.jpg").unlink(), "JPEGImages/a: no such image"),
        (lambda r: (r / "ImageSets/Main/train.txt").unlink(), "no such list; this folder has val"),
        (edit("ImageSets/Main/train.txt", "a", "\n"), "train.txt: empty"),
        (edit("ImageSets/Main/train.txt", "a", "../../b"), "line 1: '../../b' has no Annotations/b.xml"),
        (edit("ImageSets/Main/train.txt", "a", "x\x00y"), "line 1: 'x\\x00y' has no Annotations/x\\x00y.xml"),
        (edit("ImageSets/Main/train.txt", "a", "a\na"), "names 'a' twice"),
        (edit("Annotations/a.xml", "<xmax>30", "<xmax>3"), "1 object dropped: a box with xmax < xmin or ymax < ymin"),
        (
            edit("Annotations/a.xml", "<xmax>30", "<xmax>10"),
            "no object of class 'cat'; wanted at least one of each class (train: 1",
        ),
        (lambda r: os.rename(r / "Annotations", r / "annotations"), "has no Annotations; wanted"),
    ],
)
def test_refusals_name_the_file(voc: Make, damage: Callable[[Path], None], message: str) -> None:
    root = voc({"a": [CAT]}, {"train": "a\n", "val": "a\n"})
    damage(root)
    with pytest.raises(DataError) as caught:
        read_split([root], "train", ["cat"])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_too_high_is_told_where_to_look(voc: Make, tmp_path: Path) -> None:
    voc({"a": [CAT]}, {"train": "a\n"})
    with pytest.raises(DataError, match=r"VOC2007 may be meant"):
        read_split([tmp_path], "train")
    with pytest.raises(DataError, match="nowhere"):
        read_split([tmp_path / "nowhere"], "train")


def test_a_bad_image_is_told_when_it_is_read(voc: Make) -> None:
    root = voc({"a": [CAT], "b": [CAT]}, {"train": "a\nb\n"})
    edit("Annotations/a.xml", "<width>60", "<width>61")(root)
    (root / "JPEGImages/b.jpg").write_bytes((root / "JPEGImages/b.jpg").read_bytes()[:300])
    a, b = read_split([root], "train").images
    with pytest.raises(DataError, match=r"a\.jpg: is 60x40, but its annotation says 61x40"):
        read_pixels(a)
    with pytest.raises(DataError, match=r"b\.jpg: not a readable image"):
        read_pixels(b)
