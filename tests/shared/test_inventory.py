"""What tells one set of images from another, and what is said of the difference."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genrep import contents
from genrep.contents import digest_bytes, digest_files
from genrep.errors import DataError
from genrep.images.inventory import FOLDER, Inventory, inventory_of_files, inventory_of_pixels, remember

FILES = {"cat/1.png": b"one", "cat/2.png": b"two", "dog/3.png": b"three", "dog/4.png": b"four"}


def make(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def of(root: Path) -> Inventory:
    paths = sorted(str(path) for path in root.glob("*/*"))
    labels = [Path(path).parent.name for path in paths]
    return inventory_of_files(paths, labels, sorted(set(labels)))


def test_the_digest_is_of_names_labels_and_contents_wherever_they_lie(tmp_path: Path) -> None:
    here = of(make(tmp_path / "a", FILES))
    shutil.copytree(tmp_path / "a", tmp_path / "far/away")
    os.utime(tmp_path / "far/away/cat/1.png", (1, 1))
    away = of(tmp_path / "far/away")
    assert here.names == ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    assert (here.digest, here.contents_digest) == (away.digest, away.contents_digest)
    assert here.contents.tobytes() == b"".join(map(digest_bytes, (b"one", b"two", b"three", b"four")))


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "said", "same_contents"),
    [
        (lambda r: (r / "cat/1.png").write_bytes(b"eno"), "1 image changed, e.g. cat/1.png", False),  # of the same size
        (lambda r: (r / "cat/9.png").write_bytes(b"new"), "1 image added, e.g. cat/9.png", False),
        (lambda r: (r / "dog/4.png").unlink(), "1 image removed, e.g. dog/4.png", False),
        (lambda r: (r / "dog/4.png").rename(r / "dog/5.png"), "1 image renamed, e.g. dog/5.png", True),
        (
            lambda r: (r / "cat/2.png").rename(r / "dog/2.png"),
            "label of 1 image changed, e.g. dog/2.png",
            True,
        ),
        (
            lambda r: [(r / "cat").rename(r / "x"), (r / "dog").rename(r / "cat"), (r / "x").rename(r / "dog")],
            "labels of 4 images changed, e.g. cat/3.png",
            False,
        ),
        (
            lambda r: [(r / "cat/1.png").write_bytes(b"two"), (r / "cat/2.png").write_bytes(b"one")],
            "2 images renamed, e.g. cat/1.png",
            False,
        ),
        (
            lambda r: [(r / "cat/1.png").write_bytes(b"three"), (r / "dog/3.png").write_bytes(b"new")],
            "label of 1 image changed, 1 image changed, 1 image removed, e.g. cat/1.png",
            False,
        ),
        (
            lambda r: [(r / "cat/0.png").write_bytes(b"new"), (r / "cat/1.png").unlink(), (r / "cat/2.png").unlink()],
            "1 image added, 2 images removed, e.g. cat/0.png",
            False,
        ),
    ],
)
def test_what_changed_is_named(tmp_path: Path, change: Change, said: str, same_contents: bool) -> None:
    root = make(tmp_path / "set", FILES)
    before = of(root)
    change(root)
    after = of(root)
    assert after.digest != before.digest
    assert (after.contents_digest == before.contents_digest) == same_contents
    assert after.changes(before) == said


def test_classes_and_order_count_too() -> None:
    pixels = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    labels = np.array([0, 1, -1])
    one = inventory_of_pixels(pixels, labels, ("cat", "dog"))
    other = inventory_of_pixels(pixels, np.array([1, 0, -1]), ("dog", "cat"))
    assert one.labels == other.labels == ("cat", "dog", "") and one.digest != other.digest
    assert other.changes(one) == "the classes or their order changed"
    assert one.changes(inventory_of_pixels(pixels, labels, ("cat", "dog"))) == ""
    mended = inventory_of_pixels(pixels, np.array([1, 1, -1]), ("cat", "dog"))
    assert mended.changes(one) == "label of 1 image changed, e.g. 0"
    assert (
        one.take(np.array([1])).digest == inventory_of_pixels(pixels, labels, ("cat", "dog")).take(np.array([1])).digest
    )


def test_a_record_is_kept_and_compared(tmp_path: Path) -> None:
    out, root = tmp_path / "out", make(tmp_path / "set", FILES)
    first = of(root)
    assert remember(out, "set, train", first) == ""
    assert remember(out, "set, train", of(root)) == ""
    (root / "dog/3.png").write_bytes(b"THREE")
    changed = of(root)
    assert remember(out, "set, test", changed) == ""  # another subject
    assert remember(out, "set, train", changed) == "1 image changed, e.g. dog/3.png"
    assert remember(out, "set, train", first) == ""  # known: there are results of it
    for path in (out / FOLDER).iterdir():
        path.write_bytes(b"\x1f\x8bnothing")
    (root / "dog/3.png").write_bytes(b"drei!")
    assert remember(out, "set, train", of(root)) == "its record cannot be read"


def test_files_are_read_once_while_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(contents, "WORTH_KEEPING", 1)
    root = make(tmp_path / "set", FILES)
    paths = sorted(str(path) for path in root.glob("*/*"))
    monkeypatch.setattr(contents.time, "time_ns", lambda: 2**62)  # long after
    first = digest_files(paths)
    read: list[str] = []
    one = contents._digest_file
    monkeypatch.setattr(contents, "_digest_file", lambda path: (read.append(path), one(path))[1])
    assert (digest_files(paths) == first).all() and not read
    facts = os.stat(paths[1])
    (root / "cat/2.png").write_bytes(b"owt")
    os.utime(paths[1], ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as an archive restores it: size and mtime as before
    assert digest_files(paths)[1].tobytes() == digest_bytes(b"owt") and read == [paths[1]]
    read.clear()
    (store,) = (tmp_path / "home/contents").iterdir()
    store.write_bytes(store.read_bytes()[:-1])
    assert (digest_files(paths)[0] == first[0]).all() and sorted(read) == paths  # a damaged store counts for nothing


def test_what_changed_a_moment_ago_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(contents, "WORTH_KEEPING", 1)
    monkeypatch.setattr(contents, "SETTLED_NS", 10**18)
    path = tmp_path / "1.png"
    path.write_bytes(b"one")
    assert digest_files([str(path)])[0].tobytes() == digest_bytes(b"one")
    assert not any(len(file.read_bytes()) > contents.BYTES for file in (tmp_path / "home/contents").glob("*"))


@pytest.mark.parametrize("home", ["/dev/null/x", "~nobody-of-that-name"])
def test_without_a_home_everything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("GENREP_HOME", home)
    monkeypatch.setattr(contents, "WORTH_KEEPING", 1)
    (tmp_path / "1.png").write_bytes(b"one")
    assert digest_files([str(tmp_path / "1.png")])[0].tobytes() == digest_bytes(b"one")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (("pipe.png", "pipe"), ("gone.png", "gone.png: No such file")):
        with pytest.raises(DataError, match=message):
            digest_files([str(tmp_path / name)])
