"""The lists of a VOC folder, ``ImageSets/Main/SPLIT.txt``, and the image files that their names mean.

VOC's own lists have a bare name a line, with or without a label behind it. Others have names with spaces, with the image's
suffix, or paths (``JPEGImages/x.jpg``, ``/data/VOC2007/JPEGImages/x.jpg Annotations/x.xml``). A line means the first of its
readings that has an annotation.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from genrep.errors import DataError
from genrep.images.folders import image_suffixes
from genrep.untrusted import content_faults, printable, read_bounded, shown

MOST_BYTES = 256 << 20
LABEL = re.compile(r"\s+[+-]?[01]$")  # VOC's: 1 shown, 0 difficult, -1 not shown
PARTS = ("JPEGImages", "Annotations")  # of a path in a list: what stands behind the last of them is the name


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of a list."""

    name: str  # as in Annotations/<name>.xml
    suffix: str  # of the image, where the line has one
    annotation: Path


def read_list(root: Path, split: str) -> list[Listed]:
    """The images of a split, in the order of its list.

    Raises:
        DataError: there is no such list, it is no text or empty, a line means no annotation, or two the same.
    """
    path = root / "ImageSets/Main" / f"{split}.txt"
    where = printable(str(path))
    if not path.exists():
        there = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
        raise DataError(f"{where}: no such list; this folder has {', '.join(map(printable, there)) or 'none'}")
    data = read_bounded(path, MOST_BYTES, DataError, follow=True)
    with content_faults(path, DataError, "one image a line in UTF-8"):
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    found: dict[Path, Listed] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (line := line.strip()):
            continue
        one = _meant(root / "Annotations", line)
        if one is None:
            raise DataError(
                f"{where}: line {number}: {shown(line)} has no Annotations/{_bare(line)}.xml; wanted the name of an image"
            )
        if one.annotation in found:
            raise DataError(f"{where}: names {shown(one.name)} twice")
        found[one.annotation] = one
    if not found:
        raise DataError(f"{where}: empty; wanted one image a line")
    return list(found.values())


def _meant(annotations: Path, line: str) -> Listed | None:
    for name, suffix in _readings(line):
        annotation = annotations / f"{name}.xml"
        try:
            if annotation.exists():
                return Listed(name=name, suffix=suffix, annotation=annotation)
        except (OSError, ValueError):  # a name that no file can have
            continue
    return None


def _readings(line: str) -> Iterator[tuple[str, str]]:
    """Names without and with what may be a suffix, from the most literal one on; none leaves the folder."""
    unlabelled = LABEL.sub("", line)
    last = line.split()[-1]  # of two columns, image and annotation
    for text in dict.fromkeys((line, unlabelled, *([last] if last.endswith(".xml") else []))):
        for name in _places(text):
            yield name, ""
            stem, dot, suffix = name.rpartition(".")
            if dot and f".{suffix.lower()}" in (*image_suffixes(), ".xml"):
                yield stem, "" if suffix.lower() == "xml" else f".{suffix}"


def _places(text: str) -> list[str]:
    """The name, what stands behind JPEGImages/ or Annotations/ in it, and its last part."""
    parts = [part for part in PurePosixPath(text.replace("\\", "/")).parts if part not in ("/", ".")]
    begin = max((place + 1 for place, part in enumerate(parts) if part in PARTS), default=0)
    found = ["/".join(parts[at:]) for at in (0, begin, len(parts) - 1) if parts[at:] and ".." not in parts[at:]]
    return list(dict.fromkeys([text, *found] if "/" not in text and text != ".." else found))


def _bare(line: str) -> str:
    return shown(_places(LABEL.sub("", line))[-1] if _places(LABEL.sub("", line)) else line)[1:-1]


class ImageNames:
    """The image files of a JPEGImages folder by their names without suffix; a subfolder is read when a name asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, listed: Listed) -> Path | None:
        """The regular file (or a link to one) of the name: by the list's suffix, else the first of ``image_suffixes``."""
        inner, _, name = listed.name.rpartition("/")
        if inner not in self._folders:
            self._folders[inner] = self._read(self.folder / inner)
        suffixes = self._folders[inner].get(name, [])
        first = [listed.suffix] if listed.suffix in suffixes else []
        ordered = [*first, *sorted(suffixes, key=lambda suffix: (image_suffixes().index(suffix.lower()), suffix))]
        return next((p for suffix in ordered if (p := self.folder / inner / f"{name}{suffix}").is_file()), None)

    def _read(self, folder: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix.lower() in image_suffixes():
                found.setdefault(path.stem, []).append(path.suffix)
        return found
