"""Which folder holds the images of a split. What could be two things is refused: a guess would be other images, silently."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..untrusted import printable
from .folders import PassedOver, bare_images, entries_of, is_folder, subfolders, walk

SPLITS = ("train", "test")
# Names of a split's folder, in any case; of "test", the second kind where there is none of the first.
NAMES = {"train": (("train",),), "test": (("test",), ("val", "valid", "validation"))}
_ALL = {name for kinds in NAMES.values() for names in kinds for name in names}


def split_folders(folder: Path, split: str) -> list[Path]:
    """The folders that may hold a split, best first; ``folder`` itself, for ``train``, where no subfolder is a split's.

    Raises:
        DataError: there is none, two are as good as each other, or a folder may be a split or a class.
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
    """Those that are names of splits, each split once."""
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
