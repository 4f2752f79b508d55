"""The inventory of a set of labelled images: the name, label and content of each.

Results and trainings identify their data by its digest, which depends neither on the files' place nor on their times. The
inventory is kept beside the results, so that a later error can say what has changed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contents import BYTES, digest_bytes, digest_files
from ..errors import DataError
from ..files import digest_json, write_atomic
from ..untrusted import CONTENT_FAULTS, printable, read_bounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "inventories"  # of the records, beside results
KEPT = 8  # bytes of a content's digest in a record
MOST_BYTES = 1 << 30  # of a record, unpacked


@dataclass(frozen=True, eq=False, kw_only=True)
class Inventory:
    """Labelled images in their order."""

    names: tuple[str, ...]  # paths relative to their common folder
    labels: tuple[str, ...]  # names of classes, or what else a label says
    contents: NDArray[np.uint8]  # (N, 16): digests of what the files hold
    classes: tuple[str, ...] = ()  # in the order of their numbers
    word: str = "label"  # what a label is called

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over everything, in order."""
        fields = [*self.classes, "", *self.names, "", *self.labels]
        head = f"{len(self.classes)} {len(self)}\0" + "\0".join(fields)
        return hashlib.sha256(head.encode(errors="surrogateescape") + self.contents.tobytes()).hexdigest()

    @cached_property
    def contents_digest(self) -> str:
        """Hex sha256 over the contents alone, in order: all that features of the images depend on."""
        return hashlib.sha256(self.contents.tobytes()).hexdigest()

    def take(self, rows: NDArray[np.int64]) -> Inventory:
        """Some of the images."""
        return Inventory(
            names=tuple(self.names[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            contents=self.contents[rows],
            classes=self.classes,
            word=self.word,
        )

    def changes(self, before: Inventory) -> str:
        """The changes since ``before``: ``labels of 3 images changed, 2 images added, e.g. a/1.png``; empty if there are none.

        An image is known by its content, wherever it was moved to: another name is a new name, and perhaps a new label.
        """
        mine, theirs = self._facts(), before._facts()
        found: dict[str, list[str]] = {"labels": [], "contents": [], "added": [], "removed": [], "renamed": []}
        pool: dict[bytes, list[str]] = {}  # names in ``before`` under which there is something else now, by content
        for name in sorted(theirs, reverse=True):
            if name not in mine or mine[name][1] != theirs[name][1]:
                pool.setdefault(theirs[name][1], []).append(name)
        for name, (label, content) in mine.items():
            if name in theirs and theirs[name][1] == content:
                kind = "labels" if theirs[name][0] != label else None
            elif pool.get(content):
                kind = "labels" if theirs[pool[content].pop()][0] != label else "renamed"
            else:
                kind = "contents" if name in theirs else "added"
            if kind is not None:
                found[kind].append(name)
        replaced = set(found["contents"])
        found["removed"] = sorted(name for names in pool.values() for name in names if name not in replaced)
        return self._said(found) or self._said_of_order(before)

    def _facts(self) -> dict[str, tuple[str, bytes]]:
        kept = self.contents[:, :KEPT]
        return {name: (label, row.tobytes()) for name, label, row in zip(self.names, self.labels, kept)}

    def _said(self, found: dict[str, list[str]]) -> str:
        phrases = {
            "labels": f"{self.word}{{s}} of {{}} changed",
            "contents": "{} changed",
            "added": "{} added",
            "removed": "{} removed",
            "renamed": "{} renamed",
        }
        told = [(text, found[kind]) for kind, text in phrases.items() if found[kind]]
        ends = [(text, names, "" if len(names) == 1 else "s") for text, names in told]
        parts = [text.format(f"{len(names):,} image{end}", s=end) for text, names, end in ends]
        return ", ".join(parts) + f", e.g. {printable(told[0][1][0])}" if told else ""

    def _said_of_order(self, before: Inventory) -> str:
        if self.classes != before.classes:
            return "the classes or their order changed"
        return "the order of the images changed" if self.names != before.names else ""


def inventory_of_files(
    paths: Sequence[str], labels: Sequence[str], classes: Sequence[str], *, what: str = "images", word: str = "label"
) -> Inventory:
    """The inventory of image files with a label each, in words. Raises DataError if one cannot be read.

    Args:
        what: the images are called in the progress bar.
        word: the labels are called in what has changed.
    """
    paths = [os.path.normpath(path) for path in paths]
    base = os.path.commonpath([os.path.dirname(path) for path in paths])
    start = len(base) + 1 if base and base != "/" else len(base)
    return Inventory(
        names=tuple(path[start:] for path in paths),
        labels=tuple(labels),
        contents=digest_files(paths, what),
        classes=tuple(classes),
        word=word,
    )


def inventory_of_pixels(
    pixels: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: Sequence[str]
) -> Inventory:
    """The inventory of images in memory, which are called by their numbers. Shape: ``(N, H, W, C)``."""
    pixels = np.ascontiguousarray(pixels)
    shape = f"{pixels.shape[1:]}".encode()
    digests = b"".join(digest_bytes(shape + image.tobytes()) for image in pixels)
    return Inventory(
        names=tuple(map(str, range(len(pixels)))),
        labels=words_of(labels, classes),
        contents=np.frombuffer(digests, dtype=np.uint8).reshape(len(pixels), BYTES),
        classes=tuple(classes),
    )


def words_of(labels: NDArray[np.integer[Any]], classes: Sequence[str]) -> tuple[str, ...]:
    """The names of labels; empty for none (-1)."""
    return tuple(classes[label] if label >= 0 else "" for label in labels.tolist())


def changes_since(out: Path, subject: str, inventory: Inventory) -> str:
    """How a set differs from the newest one of the same subject that has a record in ``out``.

    Args:
        subject: whose images these are: a dataset and its split.

    Returns:
        What changed, in words; empty if there is no earlier record, or this very set has one.
    """
    folder, own = out / FOLDER, _record(out, subject, inventory)
    others = sorted(folder.glob(f"{own.name[:8]}-*.json.gz"), key=lambda path: path.stat().st_mtime_ns)
    if not others or own in others:
        return ""
    before = _read(others[-1])
    return "its record cannot be read" if before is None else inventory.changes(before)


def remember(out: Path, subject: str, inventory: Inventory) -> str:
    """``changes_since``; then the set has a record, too."""
    said, own = changes_since(out, subject, inventory), _record(out, subject, inventory)
    if not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        _write(own, inventory)
    return said


def _record(out: Path, subject: str, inventory: Inventory) -> Path:
    return out / FOLDER / f"{digest_json(subject)[:8]}-{inventory.digest[:16]}.json.gz"


def _write(path: Path, inventory: Inventory) -> None:
    kinds = {label: number for number, label in enumerate(dict.fromkeys(inventory.labels))}
    value = {
        "names": inventory.names,
        "kinds": list(kinds),
        "labels": [kinds[label] for label in inventory.labels],
        "contents": inventory.contents[:, :KEPT].tobytes().hex(),
        "classes": inventory.classes,
        "word": inventory.word,
    }
    write_atomic(path, gzip.compress(json.dumps(value, separators=(",", ":")).encode(), mtime=0))


def _read(path: Path) -> Inventory | None:
    """A record; None if it is damaged."""
    try:
        packed = read_bounded(path, MOST_BYTES, DataError)
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            value = json.loads(file.read(MOST_BYTES))
        labels = tuple(str(value["kinds"][number]) for number in value["labels"])
        contents = np.frombuffer(bytes.fromhex(value["contents"]), dtype=np.uint8).reshape(len(labels), KEPT)
        names, classes = (tuple(map(str, value[key])) for key in ("names", "classes"))
        if len(names) != len(labels):
            return None
        return Inventory(names=names, labels=labels, contents=contents, classes=classes, word=str(value["word"]))
    except (DataError, OSError, EOFError, *CONTENT_FAULTS):
        return None
