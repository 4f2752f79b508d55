"""Sets of photos in the layouts that their authors publish, a few pixels each, read as real ones would be."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision

from genrep.errors import DataError
from genrep.images.inventory import inventory_of_files, words_of
from genrep.images.labelled import MEAN_PER_CLASS, TOP1, LabelledImages, MissingDataset
from genrep.images.sets import SETS, is_small, load_images, load_photo_set

Patch = pytest.MonkeyPatch


def jpeg(path: Path, colour: tuple[int, int, int] = (1, 2, 3)) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), colour).save(path)


def digest(files: LabelledImages) -> str:
    return inventory_of_files(files.paths, words_of(files.labels, files.classes), files.classes).digest


def named(files: LabelledImages) -> dict[str, str]:
    """Class by file name, without the folders."""
    return {Path(path).name: files.classes[label] for path, label in zip(files.paths, files.labels)}


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def food101(root: Path, patch: Patch) -> None:
    base = root / "food-101"
    splits = {"train": {"waffles": ["1", "2"], "apple_pie": ["3"]}, "test": {"waffles": ["4"], "apple_pie": ["5"]}}
    for split, names in splits.items():
        paths = {name: [f"{name}/{number}" for number in numbers] for name, numbers in names.items()}
        write(base / "meta" / f"{split}.json", [json.dumps(paths)])
        for path in (path for found in paths.values() for path in found):
            jpeg(base / "images" / f"{path}.jpg")


def pets(root: Path, patch: Patch) -> None:
    base = root / "oxford-iiit-pet"
    for split, ids in {
        "trainval": ["Abyssinian_1 1 1 1", "great_dane_7 2 2 1"],
        "test": ["great_dane_8 2 2 1", "Abyssinian_2 1 1 1"],
    }.items():
        write(base / "annotations" / f"{split}.txt", ids)
        for line in ids:
            jpeg(base / "images" / f"{line.split()[0]}.jpg")


def dtd(root: Path, patch: Patch) -> None:
    base = root / "dtd/dtd"
    for split in ("train", "val", "test"):
        lines = [f"{name}/{name}_{split}.jpg" for name in ("banded", "zigzagged")]
        write(base / "labels" / f"{split}1.txt", lines)
        for line in lines:
            jpeg(base / "images" / line)


def aircraft(root: Path, patch: Patch) -> None:
    base = root / "fgvc-aircraft-2013b/data"
    write(base / "variants.txt", ["737-200", "A300B4"])
    write(base / "families.txt", ["A300", "Boeing 737"])
    for split, ids in (("trainval", ("0000001", "0000002")), ("test", ("0000003", "0000004"))):
        write(base / f"images_variant_{split}.txt", [f"{ids[0]} 737-200", f"{ids[1]} A300B4"])
        write(base / f"images_family_{split}.txt", [f"{ids[0]} Boeing 737", f"{ids[1]} A300"])
        for name in ids:
            jpeg(base / "images" / f"{name}.jpg")


def cars(root: Path, patch: Patch) -> None:
    from scipy.io import savemat

    base = root / "stanford_cars"
    fields = [("bbox_x1", object), ("class", object), ("fname", object)]
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.empty((1, 2), dtype=fields)
        for i in range(2):
            rows[0, i] = (np.array([[3]]), np.array([[2 - i]], dtype=np.uint8), np.array([f"{split}{i}.jpg"]))
            jpeg(base / f"cars_{split}" / f"{split}{i}.jpg")
        (base / file).parent.mkdir(parents=True, exist_ok=True)
        savemat(base / file, {"annotations": rows})
    names = np.empty((1, 2), dtype=object)
    names[0] = [np.array(["AM General Hummer SUV 2000"]), np.array(["Acura RL Sedan 2012"])]
    savemat(base / "devkit/cars_meta.mat", {"class_names": names})


def flowers(root: Path, patch: Patch) -> None:
    from scipy.io import savemat

    base = root / "flowers-102"
    for i in range(1, 307):
        jpeg(base / "jpg" / f"image_{i:05d}.jpg")
    numbers = np.arange(306)
    savemat(base / "imagelabels.mat", {"labels": numbers[None] % 102 + 1})
    parts = {name: numbers[None, 102 * k : 102 * (k + 1)] + 1 for k, name in enumerate(("trnid", "valid", "tstid"))}
    savemat(base / "setid.mat", parts)
    sums = {
        name: hashlib.md5((base / file).read_bytes()).hexdigest()
        for name, file in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    files = {"label": ("imagelabels.mat", sums["label"]), "setid": ("setid.mat", sums["setid"])}
    patch.setattr(
        torchvision.datasets.Flowers102, "_file_dict", {**torchvision.datasets.Flowers102._file_dict, **files}
    )


def folder(*parts: str) -> Callable[[Path, Patch], None]:
    def make(root: Path, patch: Patch) -> None:
        base = root.joinpath(*parts)
        for split in ("train", "val"):
            for name in ("n01558993", "n01692333"):
                jpeg(base / split / name / f"{name}_{split}.JPEG")

    return make


MAKERS = {
    "food101": (food101, 3, 2, ("apple_pie", "waffles"), TOP1),
    "pets": (pets, 2, 2, ("Abyssinian", "Great Dane"), MEAN_PER_CLASS),
    "dtd": (dtd, 4, 2, ("banded", "zigzagged"), TOP1),
    "fgvc_aircraft": (aircraft, 2, 2, ("737-200", "A300B4"), MEAN_PER_CLASS),
    "fgvc_aircraft_family": (aircraft, 2, 2, ("A300", "Boeing 737"), MEAN_PER_CLASS),
    "stanford_cars": (cars, 2, 2, ("AM General Hummer SUV 2000", "Acura RL Sedan 2012"), TOP1),
    "flowers102": (flowers, 204, 102, None, MEAN_PER_CLASS),
    "imagenet": (folder("imagenet"), 2, 2, ("n01558993", "n01692333"), TOP1),
    "birdsnap": (folder("birdsnap"), 2, 2, ("n01558993", "n01692333"), TOP1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_published_layouts_are_read(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    make, train_count, test_count, classes, metric = MAKERS[name]
    make(tmp_path, monkeypatch)
    train, test = load_photo_set(name, tmp_path)
    assert (len(train), len(test)) == (train_count, test_count)
    assert not set(train.paths) & set(test.paths)
    assert train.classes == test.classes and len(train.classes) >= 2
    assert classes is None or train.classes == classes
    assert SETS[name].metric == metric
    assert len(digest(train)) == 64
    for path in (*train.paths, *test.paths):
        assert Path(path).is_file()


def test_labels_are_the_files_own(tmp_path: Path, monkeypatch: Patch) -> None:
    for make in (food101, pets, aircraft, cars):
        make(tmp_path, monkeypatch)
    food = named(load_photo_set("food101", tmp_path)[0])
    assert food == {"1.jpg": "waffles", "2.jpg": "waffles", "3.jpg": "apple_pie"}
    assert named(load_photo_set("pets", tmp_path)[1]) == {
        "great_dane_8.jpg": "Great Dane",
        "Abyssinian_2.jpg": "Abyssinian",
    }
    family = named(load_photo_set("fgvc_aircraft_family", tmp_path)[1])
    assert family == {"0000003.jpg": "Boeing 737", "0000004.jpg": "A300"}
    car = named(load_photo_set("stanford_cars", tmp_path)[0])
    assert car == {"train0.jpg": "Acura RL Sedan 2012", "train1.jpg": "AM General Hummer SUV 2000"}


def test_caltech_takes_thirty_of_each_class_as_genrep(tmp_path: Path) -> None:
    base = tmp_path / "caltech101/101_ObjectCategories"
    counts = {"accordion": 34, "yin_yang": 31, "BACKGROUND_Google": 3}
    for name, count in counts.items():
        for i in range(1, count + 1):
            jpeg(base / name / f"image_{i:04d}.jpg")
    train, test = load_photo_set("caltech101", tmp_path)
    assert train.classes == ("accordion", "yin_yang")
    stream = random.Random(0)
    wanted = []
    for name in train.classes:
        numbers = list(range(1, counts[name] + 1))
        stream.shuffle(numbers)
        wanted += [str(base / name / f"image_{i:04d}.jpg") for i in numbers[:30]]
    assert train.paths == wanted
    assert np.bincount(test.labels).tolist() == [4, 1]


def test_sun397_by_partition_or_by_share(tmp_path: Path) -> None:
    base = tmp_path / "SUN397"
    classes = ["/a/abbey", "/b/bath/indoor"]
    write(base / "ClassName.txt", classes)
    for name in classes:
        for i in range(10):
            jpeg(base / name[1:] / f"sun_{i}.jpg")
    with pytest.raises(MissingDataset, match=r"no Training_01.txt .*Partitions.zip"):
        load_photo_set("sun397", tmp_path)
    train, test = load_photo_set("sun397_80_20", tmp_path)
    assert (np.bincount(train.labels).tolist(), np.bincount(test.labels).tolist()) == ([8, 8], [2, 2])
    assert load_photo_set("sun397_80_20", tmp_path)[0].paths == train.paths
    for part, number in (("Training_01.txt", 3), ("Testing_01.txt", 7)):
        write(base / "Partitions" / part, [f"{name}/sun_{number}.jpg" for name in classes])
    train, test = load_photo_set("sun397", tmp_path)
    assert train.paths == [f"{base}/a/abbey/sun_3.jpg", f"{base}/b/bath/indoor/sun_3.jpg"]
    assert test.labels.tolist() == [0, 1]
    write(base / "Partitions/Testing_01.txt", ["/z/zoo/sun_1.jpg"])
    with pytest.raises(DataError, match=r"/z/zoo/sun_1.jpg: a class that .*ClassName.txt does not have"):
        load_photo_set("sun397", tmp_path)


def test_imagenet100_is_a_folder_or_the_papers_part_of_imagenet(tmp_path: Path) -> None:
    from importlib.resources import files

    lines = (files("genrep.images") / "imagenet100.txt").read_text().splitlines()
    ids = [line.split("\t")[1] for line in lines]
    for name in [*ids, "n09999999"]:
        for split in ("train", "val"):
            jpeg(tmp_path / "imagenet" / split / name / f"{name}.JPEG")
    train, test = load_photo_set("imagenet100", tmp_path)
    assert train.classes == test.classes == tuple(sorted(ids)) and len(train) == 100
    folder("imagenet100")(tmp_path, pytest.MonkeyPatch())
    assert len(load_photo_set("imagenet100", tmp_path)[0].classes) == 2


@pytest.mark.parametrize("name", ["birdsnap", "imagenet"])
def test_a_folder_is_a_set_only_under_its_name(name: str, tmp_path: Path) -> None:
    for base in (tmp_path / "cars", tmp_path / name):
        for split in ("train", "test"):
            for class_name in ("a", "b"):
                jpeg(base / split / class_name / "1.jpg")
    with pytest.raises(MissingDataset, match=rf"dataset {name}: not found as .*cars/{name}/train/"):
        load_photo_set(name, tmp_path / "cars")
    for root in (tmp_path, tmp_path / name):
        assert len(load_photo_set(name, root)[0]) == 2


@pytest.mark.parametrize("name", [name for name in SETS if not is_small(name)])
def test_what_is_not_there_is_told_with_the_place_and_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDataset) as caught:
        load_photo_set(name, tmp_path)
    message = str(caught.value)
    assert (
        str(tmp_path) in message and ("; download fetches it" in message or "wanted" in message) and "\n" not in message
    )
    if not SETS[name].downloads:
        with pytest.raises(MissingDataset, match="wanted"):
            load_photo_set(name, tmp_path, download=True)
    with pytest.raises(DataError, match=" as root"):
        load_photo_set(name, None)


def damage_label(root: Path) -> None:
    (root / "fgvc-aircraft-2013b/data/images_variant_test.txt").write_text("0000003 Concorde\n0000004 A300B4\n")


def empty_class(root: Path) -> None:
    (root / "fgvc-aircraft-2013b/data/images_variant_test.txt").write_text("0000003 737-200\n")


def no_list(root: Path) -> None:
    (root / "fgvc-aircraft-2013b/data/variants.txt").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_label, "label 'Concorde' is not in its list of classes"),
        (empty_class, "no images of 1 of 2 classes, e.g. A300B4"),
        (no_list, "variants.txt"),
    ],
)
def test_damaged_sets_are_one_line(
    damage: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    aircraft(tmp_path, monkeypatch)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_photo_set("fgvc_aircraft", tmp_path)
    assert "\n" not in str(caught.value) and "fgvc_aircraft" in str(caught.value)


def test_a_file_that_is_listed_but_not_there(tmp_path: Path, monkeypatch: Patch) -> None:
    food101(tmp_path, monkeypatch)
    (tmp_path / "food-101/images/waffles/1.jpg").unlink()
    with pytest.raises(DataError, match=r"waffles/1.jpg: No such file"):
        digest(load_photo_set("food101", tmp_path)[0])


def test_the_digest_follows_files_and_labels(tmp_path: Path, monkeypatch: Patch) -> None:
    aircraft(tmp_path, monkeypatch)
    before = digest(load_photo_set("fgvc_aircraft", tmp_path)[0])
    assert digest(load_photo_set("fgvc_aircraft", tmp_path)[0]) == before
    assert digest(load_photo_set("fgvc_aircraft_family", tmp_path)[0]) != before  # other labels
    jpeg(tmp_path / "fgvc-aircraft-2013b/data/images/0000001.jpg", (200, 2, 3))
    assert digest(load_photo_set("fgvc_aircraft", tmp_path)[0]) != before


def test_cifar100_from_its_pickles(tmp_path: Path, monkeypatch: Patch) -> None:
    base = tmp_path / "cifar-100-python"
    base.mkdir()
    stream = np.random.RandomState(0)
    names = [f"class{i}" for i in range(100)]
    contents = {"meta": {"fine_label_names": names}}
    for split, count in (("train", 4), ("test", 3)):
        data = stream.randint(0, 256, (count, 3072)).astype(np.uint8)
        contents[split] = {"data": data, "fine_labels": list(range(count))}
    sums = {}
    for name, content in contents.items():
        (base / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    kind = torchvision.datasets.CIFAR100
    monkeypatch.setattr(kind, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["meta"]})
    found = load_images("cifar100", tmp_path, "train")
    assert found.classes == tuple(names) and found.labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.images[2, :, :, 1].ravel(), contents["train"]["data"][2, 1024:2048])
    (base / "train").write_bytes(b"x")
    with pytest.raises(MissingDataset, match=r"cifar100: not found, or incomplete, under .*; download fetches it$"):
        load_images("cifar100", tmp_path, "train")


def test_mnist_is_padded_and_gray(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    images, labels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), bytes([7, 1])
    for prefix in ("train", "t10k"):
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + (2).to_bytes(4, "big") + labels)
    found = load_images("mnist", tmp_path, "test")
    assert found.images.shape == (2, 32, 32, 3) and found.is_gray() and found.labels.tolist() == [7, 1]
    np.testing.assert_array_equal(found.images[:, 2:-2, 2:-2, 0], images)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + (2).to_bytes(4, "big") + bytes([7, 11]))
    with pytest.raises(DataError, match="label 11, but there are 10 classes"):
        load_images("mnist", tmp_path, "test")
