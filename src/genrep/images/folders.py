"""The contents of an image folder: its images and their order, its other files, and the folders of its splits.

No file is opened. A folder that can be read in two ways is refused: a wrong guess would silently give other images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..errors import DataError
from ..untrusted import printable

SPLITS = ("train", "test")
# Names of a split's folder, in any case; of "test", the second kind where there is none of the first.
NAMES = {"train": (("train",),), "test": (("test",), ("val", "valid", "validation"))}
_ALL = {name for kinds in NAMES.values() for names in kinds for name in names}
# torchvision's IMG_EXTENSIONS, and what else Pillow reads of photos and the web; in any case.
_ALWAYS = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# Files that systems leave in folders, besides names that begin with a dot (.DS_Store, ._photo.jpg, .ipynb_checkpoints).
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")


@cache
def image_suffixes() -> tuple[str, ...]:
    """Suffixes of images, in lower case; ``.avif`` where Pillow reads it."""
    from PIL import features

    return (*_ALWAYS, ".avif") if features.check("avif") else _ALWAYS


def is_visible(name: str) -> bool:
    """Whether a name is a user's: neither hidden nor a system's own."""
    return not name.startswith(".") and name.lower() not in _LEFT_BY_SYSTEMS


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """The visible entries of a folder, sorted by name. Raises DataError if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if is_visible(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(str(folder))}: {error.strerror}") from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file, or a link to one, with the suffix of an image."""
    try:
        return is_visible(entry.name) and _suffix(entry.name) in image_suffixes() and entry.is_file()
    except OSError:  # as above
        return False


def subfolders(folder: Path) -> list[str]:
    """The names of the visible folders in a folder, sorted. Raises DataError if it cannot be listed."""
    return [entry.name for entry in entries_of(folder) if is_folder(entry)]


@dataclass
class PassedOver:
    """The files that a walk skipped: for each kind their number, the number of folders, and the first one."""

    kinds: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def add(self, kind: str, names: Sequence[str]) -> None:
        """Names of one folder, relative to where the walk began."""
        count, folders, first = self.kinds.get(kind, (0, 0, names[0]))
        self.kinds[kind] = (count + len(names), folders + 1, first)

    def join(self, other: PassedOver) -> None:
        """Add the files that another walk skipped."""
        for kind, (count, folders, first) in other.kinds.items():
            mine = self.kinds.get(kind, (0, 0, first))
            self.kinds[kind] = (mine[0] + count, mine[1] + folders, mine[2])

    def words(self) -> str:
        """One line; empty if there was nothing."""
        parts = []
        for kind, (count, folders, first) in sorted(self.kinds.items(), key=lambda item: (-item[1][0], item[0])):
            where = f" in {folders} folders" if folders > 1 else ""
            parts.append(f"{count} {kind}{where} ({'e.g. ' if count > 1 else ''}{printable(first)})")
        return ", ".join(parts)


def walk(folder: Path, place: str, over: PassedOver) -> list[str]:
    """The images at any depth below a folder: by folder, then by name, as torchvision's ``ImageFolder`` sorts them.

    Args:
        folder: where ``place`` lies.
        place: a folder in it. What is returned begins with its name.
        over: collects the files that are skipped.

    A folder that was reached before (through a link, perhaps to one above) is not read again.

    Raises DataError if a folder cannot be listed.
    """
    # A link to the folder of all classes, or above, would bring the other classes into this one.
    above = *Path(os.path.realpath(folder), place).parents, *Path(os.path.realpath(folder / place)).parents
    seen = {_key(one) for one in above}
    todo, found = [place], dict[str, list[str]]()
    while todo:
        here = todo.pop()
        if (key := _key(folder / here)) in seen:
            over.add("links to folders that are read already", [here])
            continue
        seen.add(key)
        found[here] = []
        inner, others = list[str](), dict[str, list[str]]()
        for entry in entries_of(folder / here):
            relative = f"{here}/{entry.name}"
            if is_folder(entry):
                inner.append(relative)
            elif is_image(entry):
                found[here].append(relative)
            else:
                others.setdefault(_kind(entry), []).append(relative)
        todo += reversed(inner)
        for kind, names in others.items():
            over.add(kind, names)
    return [name for _, names in sorted(found.items()) for name in names]


def bare_images(folder: Path, over: PassedOver, *, but: str = "") -> list[str]:
    """The names of the images that lie in a folder itself, sorted; other files go to ``over``, ``but`` this one."""
    found, others = list[str](), dict[str, list[str]]()
    for entry in entries_of(folder):
        if is_image(entry):
            found.append(entry.name)
        elif entry.name != but and not is_folder(entry):
            others.setdefault(_kind(entry), []).append(entry.name)
    for kind, names in others.items():
        over.add(kind, names)
    return found


def no_images(folder: Path, over: PassedOver, what: str = "") -> DataError:
    """The error for a folder without images. It says what the folder holds instead."""
    there = f"; found {over.words()}" if over.kinds else ""
    return DataError(f"{printable(str(folder))}: no images{what} ({', '.join(image_suffixes())}){there}")


def _key(folder: Path) -> tuple[int, int]:
    try:
        facts = os.stat(folder)
    except OSError as error:
        raise DataError(f"{printable(str(folder))}: {error.strerror}") from None
    return facts.st_dev, facts.st_ino


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _kind(entry: os.DirEntry[str]) -> str:
    """Why an entry is not an image, in words that follow a count."""
    suffix = _suffix(entry.name)
    if suffix in image_suffixes():
        return "broken links" if entry.is_symlink() and not os.path.exists(entry.path) else "pipes or devices"
    return printable(suffix) if suffix else "without a suffix"


def split_folders(folder: Path, split: str) -> list[Path]:
    """The folders that may hold a split, best first; ``folder`` itself, for ``train``, where no subfolder is a split's.

    Raises:
        DataError: no folder fits, two fit equally well, or a folder may be a split or a class.
    """
    there = subfolders(folder)
    splits = [name for name in there if name.lower() in _ALL]
    classes = [name for name in there if name.lower() not in _ALL]
    if splits and classes:
        _refuse_classes(folder, splits, classes)
    found = []
    for names in NAMES[split]:
        same = [name for name in splits if name.lower() in names]
        if len(same) > 1:
            both = " and ".join(f"{name}/" for name in same)
            raise DataError(f"{_shown(folder)}: {both} could each hold the {split} images; leave one of them")
        found += [folder / name for name in same]
    if found:
        return found
    if split == "train" and not splits:
        return [folder]
    wanted = " or ".join(f"{name}/" for names in NAMES[split] for name in names)
    beside = f" beside {splits[0]}/" if splits else ""
    raise DataError(f"{_shown(folder)}: no {wanted} subfolder{beside}; wanted one with the {split} images")


def has_split(folder: Path, name: str) -> bool:
    """Whether a folder is there and holds one that is called ``name``, in any case."""
    return folder.is_dir() and any(one.lower() == name for one in subfolders(folder))


def split_names(names: list[str]) -> list[str]:
    """The names that are splits, each split once."""
    return list({name.lower(): name for name in names if name.lower() in _ALL}.values())


def _refuse_classes(folder: Path, splits: list[str], others: list[str]) -> None:
    """Raise DataError if folders with the names of splits may be classes beside ``others``: a train beside a car and a plane.

    A folder that holds folders is a split. One that holds images, beside others that hold images, may be either.
    """
    bare = [name for name in splits if not subfolders(folder / name) and bare_images(folder / name, PassedOver())]
    beside = next((name for name in others if bare and walk(folder, name, PassedOver())), None)
    if beside is not None:
        raise DataError(
            f"{_shown(folder)}: {bare[0]}/ holds images as {printable(beside)}/ does, so it may be a split or a class; "
            f"rename it if it is a class, move {printable(beside)}/ elsewhere if it is a split"
        )


def beside_splits(folder: Path, base: Path) -> str:
    """Folders and images beside the split ``base`` that are no split's, in words; empty if there are none."""
    if base == folder:
        return ""
    folders = [entry.name for entry in entries_of(folder) if is_folder(entry) and entry.name.lower() not in _ALL]
    images = bare_images(folder, PassedOver())
    return contents(folders, images) if folders or images else ""


def contents(folders: list[str], images: list[str]) -> str:
    """Folders and images of a folder, in words."""
    parts = [f"{len(folders)} folder{'s' * (len(folders) > 1)} ({printable(folders[0])}/)"] if folders else []
    parts += [f"{len(images)} image{'s' * (len(images) > 1)} ({printable(images[0])})"] if images else []
    return " and ".join(parts) or "nothing"


def _shown(folder: Path) -> str:
    return printable(str(folder))
