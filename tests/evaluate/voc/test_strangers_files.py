"""VOC folders as other tools write them, and as a stranger may have prepared them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from genrep.errors import DataError
from genrep.evaluate.voc.files import DEEPEST, read_annotation, read_xml
from genrep.evaluate.voc.layout import read_pixels, read_split

Make = Callable[..., Path]
CAT = ("cat", (10, 5, 30, 20), 0)
OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"


def annotation(path: Path, name: str, encoding: str, declared: str | None = None) -> Path:
    text = f"<annotation>{OBJECT.format(name)}</annotation>"
    head = f'<?xml version="1.0" encoding="{declared or encoding}"?>\n'
    path.write_bytes((head + text).encode(encoding))
    return path


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        *(
            (one, "猫")
            for one in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "gb18030")
        ),
        *(
            ("big5", "貓"),
            ("shift_jis", "猫"),
            ("euc-jp", "猫"),
            ("iso2022_jp", "猫"),
            ("euc-kr", "고양이"),
            ("hz", "猫"),
        ),
        *(("cp1252", "chät"), ("koi8-r", "кот"), ("cp037", "chat"), ("cp500", "chat")),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    (one,) = read_annotation(annotation(tmp_path / "a.xml", name, encoding))[1]
    assert one.name == name


def test_utf_16_that_is_declared_of_utf_8_bytes(tmp_path: Path) -> None:
    # What .NET's StringWriter leaves behind.
    (one,) = read_annotation(annotation(tmp_path / "a.xml", "chät", "utf-8", declared="utf-16"))[1]
    assert one.name == "chät"


@pytest.mark.parametrize("declared", ["klingon-8", "zlib", "rot13", "idna", "punycode", "unicode_escape", "undefined"])
def test_what_is_no_encoding_of_a_text_is_the_files_fault(tmp_path: Path, declared: str) -> None:
    path = annotation(tmp_path / "odd.xml", "cat", "ascii", declared=declared)
    with pytest.raises(DataError, match=r"odd\.xml: .*(encoding|undefined)") as caught:
        read_annotation(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<annotation>" + b"<a>" * 2_000_000, f"at most {DEEPEST} levels"),
        (b"<annotation>" + b"<a/>" * 200_001 + b"</annotation>", "200,000 elements"),
        (b"<annotation>" + b" " * (16 << 20), "bytes, wanted at most"),
        (b'<?xml version="1.0" encoding="big5"?><annotation>\xff\xff</annotation>', "not readable as XML"),
        (b'<?xml version="1.0" encoding="utf-7"?><annotation>+2D0-</annotation>', "not readable as XML"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "has a DOCTYPE"),
        (b"", "not readable as XML"),
    ],
    ids=["deep", "many", "large", "no-big5", "lone-surrogate", "external", "empty"],
)
def test_bounds_name_the_file_quickly(
    tmp_path: Path, calls: Callable[[Callable[[], object]], int], content: bytes, message: str
) -> None:
    (tmp_path / "a.xml").write_bytes(content)

    def read() -> None:
        with pytest.raises(DataError, match=r"a\.xml: ") as caught:
            read_xml(tmp_path / "a.xml")
        assert message in str(caught.value)

    assert calls(read) < 5_000_000


def test_a_name_with_escapes_is_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    text = OBJECT.format("c\u202eat").replace("<xmin>1", "<xmin>\u009b2J")
    path.write_text(f"<annotation>{text}</annotation>")
    with pytest.raises(DataError) as caught:
        read_annotation(path)
    assert "c\\u202eat" in str(caught.value) and str(caught.value).isprintable()


def test_objects_without_a_box_are_dropped_and_said(voc: Make) -> None:
    root = voc({"a": [CAT], "b": [CAT]}, {"test": "a\nb\n"})
    path = root / "Annotations/a.xml"
    more = "<object><name>dog</name></object><object><name>dog</name><polygon><x1>3</x1></polygon></object>"
    more += "<object><bndbox><xmin/><ymin/></bndbox></object>"
    path.write_text(path.read_text().replace("</annotation>", f"{more}</annotation>"))
    split = read_split([root], "test")
    assert split.classes == ("cat",) and [len(image.labels) for image in split.images] == [1, 1]
    assert split.remarks() == ["test: 3 objects dropped: without a <bndbox>, e.g. in a.xml"]


@pytest.mark.parametrize(
    "lines",
    [
        "my img\nb.c\nimg 1",
        "my img 1\nb.c -1\nimg 1  0",
        "my img.png\nb.c.JPG\nimg 1.tif",
        "JPEGImages/my img.png\nJPEGImages/b.c.JPG\n./JPEGImages/img 1.tif",
        "/data/set/JPEGImages/my img.png\n../JPEGImages/b.c.JPG\nJPEGImages\\img 1.tif",
        "Annotations/my img.xml\nx.jpg Annotations/b.c.xml\nAnnotations/img 1.xml",
    ],
    ids=["bare", "labelled", "suffixes", "paths", "foreign-paths", "two-columns"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_of_other_tools(voc: Make, lines: str, encoding: str) -> None:
    root = voc({"my img": [CAT], "b.c": [CAT], "img 1": [CAT]}, {})
    for name, suffix in (("my img", ".png"), ("b.c", ".JPG"), ("img 1", ".tif")):
        picture = root / "JPEGImages" / f"{name}.jpg"
        with Image.open(picture) as image:
            image.load()
        picture.unlink()
        image.save(picture.with_suffix("").with_name(name + suffix))
    (root / "ImageSets/Main/test.txt").write_bytes(lines.encode(encoding))
    split = read_split([root], "test")
    assert [image.name for image in split.images] == ["my img", "b.c", "img 1"]
    assert [read_pixels(image).size for image in split.images] == [(60, 40)] * 3


def test_a_name_in_a_subfolder(voc: Make) -> None:
    root = voc({"a": [CAT]}, {"test": "day/a\nJPEGImages/day/b.jpg\n"})
    for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
        (root / folder / "day").mkdir()
        for name in "ab":
            (root / folder / "day" / f"{name}{suffix}").write_bytes((root / folder / f"a{suffix}").read_bytes())
    assert [image.path.parent.name for image in read_split([root], "test").images] == ["day", "day"]


@pytest.mark.parametrize("place", ["Annotations/a.xml", "ImageSets/Main/test.txt", "JPEGImages/a.jpg"])
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_pipes_and_devices_are_refused(voc: Make, place: str, kind: str) -> None:
    root = voc({"a": [CAT]}, {"test": "a\n"})
    (root / place).unlink()
    if kind == "pipe":
        os.mkfifo(root / place)
    else:
        (root / place).symlink_to("/dev/zero")
    with pytest.raises(DataError, match=place.rpartition("/")[2].partition(".")[0]):
        read_split([root], "test")


def test_links_to_files_are_read(voc: Make, tmp_path: Path) -> None:
    root = voc({"a": [CAT]}, {"test": "a\n"})
    for place in ("Annotations/a.xml", "JPEGImages/a.jpg"):
        (root / place).rename(tmp_path / Path(place).name)
        (root / place).symlink_to(tmp_path / Path(place).name)
    assert read_pixels(read_split([root], "test").images[0]).size == (60, 40)
