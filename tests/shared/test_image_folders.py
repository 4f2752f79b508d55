"""Image folders as people have them: what is read, in which order, what is said, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from genrep.errors import DataError
from genrep.images.folders import image_suffixes
from genrep.images.listing import list_images, list_pair


def put(*paths: str | Path, size: int = 2) -> None:
    for k, path in enumerate(map(Path, paths)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (k * 20 % 256, 9, 9)).save(path, "PNG")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nested_folders_are_numbered_as_torchvision_numbers_them() -> None:
    put("d/b/z.png", "d/b/x/1.png", "d/b/x-y/1.png", "d/b/x/y/2.PNG", "d/a/2.jpg", "d/a/10.webp", "d/a/B/1.tif")
    os.symlink("../b/x", "d/a/link")
    listing = list_images(Path("d"), "train")
    theirs = ImageFolder("d")
    assert [(f"d/{name}", label) for name, label in zip(listing.names, listing.labels)] == theirs.samples
    assert list(listing.classes) == theirs.classes and listing.remarks == ()


def test_every_suffix_in_any_case_is_an_image() -> None:
    theirs = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
    for suffix in (*theirs, ".jfif", ".gif", ".avif"):
        assert suffix in image_suffixes()
        put(f"d/a{suffix}", f"d/b{suffix.upper()}")
    assert len(list_images(Path("d"), "train")) == 2 * len(image_suffixes())


def test_what_systems_leave_is_nothing() -> None:
    put("d/a/1.png", "d/b/1.png", "d/a/.hidden/2.png", "d/.cache/x/1.png", "d/__MACOSX/a/1.png", "d/.loose.png")
    for name in ("d/.DS_Store", "d/a/._1.png", "d/a/Thumbs.db", "d/b/desktop.ini", "d/Desktop.ini"):
        Path(name).write_bytes(b"\0\5\x16\7")
    listing = list_images(Path("d"), "train")
    assert (listing.classes, listing.names, listing.remarks) == (("a", "b"), ["a/1.png", "b/1.png"], ())


def test_what_is_passed_over_is_said_by_suffix_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    put("d/train/a/1.png", "d/train/b/1.png", "d/test/a/1.png", "d/test/b/1.png", "d/extra/1.png", "d/cover.png")
    for name in ("train/a/boxes.TXT", "train/b/boxes.txt", "train/b/movie.mp4", "train/README"):
        Path("d", name).write_text("x")
    os.symlink("nowhere", "d/train/a/gone.png")
    os.mkfifo("d/train/a/pipe.png")
    listing = list_images(Path("d"), "train").tell()
    assert capsys.readouterr().err.splitlines() == list(listing.remarks)
    assert listing.remarks == (
        "d: 1 folder (extra/) and 1 image (cover.png) beside train/ passed over",
        "d/train: passed over 2 .txt in 2 folders (e.g. a/boxes.TXT), 1 .mp4 (b/movie.mp4), "
        "1 broken links (a/gone.png), 1 pipes or devices (a/pipe.png), 1 without a suffix (README)",
    )


def test_links_that_lead_back_end() -> None:
    put("d/a/x/1.png", "d/b/1.png")
    os.symlink("..", "d/a/x/up")
    os.symlink("../..", "d/a/x/all")  # would bring b's images into a
    os.symlink("self", "d/a/self")
    os.symlink("self.png", "d/a/self.png")
    listing = list_images(Path("d"), "train")
    assert listing.names == ["a/x/1.png", "b/1.png"]
    assert "2 links to folders that are read already in 2 folders (e.g. a/x/all)" in listing.remarks[0]


def test_links_to_each_other_are_no_work_without_end() -> None:
    put("d/a/0/1.png")
    for k in range(40):  # two ways on at each of 40 steps: 2^40 paths
        Path(f"d/a/{k + 1}").mkdir()
        for way in "pq":
            os.symlink(f"../{k + 1}", f"d/a/{k}/{way}")
    assert list_images(Path("d"), "train").names == ["a/0/1.png"]


@pytest.mark.parametrize(
    ("paths", "split", "words"),
    [
        (["d/n.png", "d/old/x.png"], "train", r"d: 1 folder \(old/\) and 1 image \(n.png\); wanted either"),
        (["d/val/a/1.png", "d/validation/a/1.png"], "test", "val/ and validation/ could each hold the test images"),
        (["d/Train/a/1.png", "d/train/a/1.png"], "train", "Train/ and train/ could each hold the train images"),
        (["d/car/1.png", "d/plane/1.png", "d/train/1.png"], "train", "train/ holds images as car/ does"),
        (["d/a/1.png", "d/test/a/1.png"], "train", "d: no train/ subfolder beside test/"),
        (["d/a/1.png"], "test", "d: no test/ or val/ or valid/ or validation/ subfolder; wanted one with"),
        (["d/set/train/a/1.png", "d/set/test/a/1.png"], "train", "d/set: holds test/, a split.*give this folder"),
        (["d/train/a/1.png", "d/val/1.png"], "test", r"d/val: 1 image \(1.png\), none of the 1 classes of d/train"),
        (["d/train/a/1.png", "d/val/images/1.png"], "test", r"d/val: 1 folder \(images/\), none of the 1 classes"),
        (["d/train/a/1.png", "d/train/b/1.png", "d/val/a/1.png"], "test", "d/val: no folder of 1 of 2 classes, e.g. b"),
        (["d/train/a/1.png", "d/val/a/1.png", "d/val/c/1.png"], "test", "d/val/c: a class that d/train lacks"),
    ],
)
def test_what_could_be_two_things_is_refused(paths: list[str], split: str, words: str) -> None:
    put(*paths)
    with pytest.raises(DataError, match=words):
        list_images(Path("d"), split)


@pytest.mark.parametrize("names", [("Train", "VAL"), ("train", "valid"), ("TRAIN", "Validation"), ("train", "Test")])
def test_splits_by_their_usual_names(names: tuple[str, str]) -> None:
    put(f"d/{names[0]}/a/1.png", f"d/{names[0]}/b/1.png", f"d/{names[1]}/a/3.png", f"d/{names[1]}/b/4.png")
    train, test = list_pair(Path("d"))
    assert (train.base.name, test.base.name) == names
    assert test.names == ["a/3.png", "b/4.png"]


def test_a_class_folder_without_images_says_what_it_holds() -> None:
    put("d/a/1.png")
    Path("d/b").mkdir()
    Path("d/b/1.heic").write_text("x")
    with pytest.raises(DataError, match=r"d/b: no images in this class folder \(.*\); found 1 .heic \(b/1.heic\)"):
        list_images(Path("d"), "train")


def test_one_class_with_folders_in_it_is_said() -> None:
    put("d/images/cat/1.png", "d/images/dog/1.png")
    assert "give d/images if these are the classes" in list_images(Path("d"), "train").remarks[0]


@pytest.fixture
def tiny(here: Path) -> Path:
    """Tiny-ImageNet's layout: images/ in each class, a list for val/, and a test/ without labels."""
    for name in ("n02", "n01"):
        put(*(f"t/train/{name}/images/{name}_{i}.JPEG" for i in range(3)))
        Path(f"t/train/{name}/{name}_boxes.txt").write_text("x")
    put(*(f"t/val/images/val_{i}.JPEG" for i in range(4)), *(f"t/test/images/test_{i}.JPEG" for i in range(4)))
    lines = "".join(f"val_{i}.JPEG\tn0{i % 2 + 1}\t0\t0\t8\t8\n" for i in range(4))
    Path("t/val/val_annotations.txt").write_text(lines)
    Path("t/wnids.txt").write_text("n02\nn01\n")
    return Path("t")


def test_tiny_imagenet_is_read_with_its_list(tiny: Path) -> None:
    train, test = list_pair(tiny)
    assert train.classes == test.classes == ("n01", "n02")
    assert (
        train.names[:2] == ["n01/images/n01_0.JPEG", "n01/images/n01_1.JPEG"]
        and train.labels.tolist() == [0] * 3 + [1] * 3
    )
    labels = {"val_0": 0, "val_2": 0, "val_1": 1, "val_3": 1}
    assert test.names == [f"images/{name}.JPEG" for name in labels] and test.labels.tolist() == list(labels.values())
    assert test.remarks == (
        "t/test: without labels; t/val is read",
        "t/val: 4 images of 2 classes, labelled with val_annotations.txt",
    )
    assert test.split == "its val/ folder with val_annotations.txt"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("val_0.JPEG\tn07\t0", "line 5: class 'n07', which is no folder of the training images"),
        ("val_9.JPEG\tn01\t0", "line 5: no image 'val_9.JPEG' in t/val"),
        ("val_0.JPEG\tn01\t0", "line 5: 'val_0.JPEG' is listed twice"),
        ("val_0.JPEG", "line 5: class ''"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_its_line(tiny: Path, line: str, words: str) -> None:
    with (tiny / "val/val_annotations.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=f"t/val/val_annotations.txt: {words}"):
        list_images(tiny, "test")


def test_images_that_the_list_lacks_are_said(tiny: Path) -> None:
    put("t/val/images/other.JPEG")
    assert list_images(tiny, "test").remarks[1] == (
        "t/val: passed over 1 images that val_annotations.txt lacks (images/other.JPEG)"
    )
