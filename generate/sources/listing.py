"""The files of an image folder, or of a set in its layout, by name."""

from __future__ import annotations

import os
from pathlib import Path

from genrep.errors import DataError, one_of
from genrep.images.labelled import NAMED
from genrep.images.listing import Listing, list_images
from genrep.images.photo_sets import FOLDER_SETS, find_folder


def is_listed(data: str) -> bool:
    """Whether ``list_real`` is for it: a folder, or a name of ``FOLDER_SETS``."""
    return data in FOLDER_SETS or Path(data).is_dir()


def require_images(data: str) -> None:
    """Raise DataError unless it is a folder, or the name of a set that is known."""
    if data not in NAMED and not is_listed(data):
        known = one_of(data, sorted((*NAMED, *FOLDER_SETS)))
        raise DataError(f"{data}: {'no such folder' if os.sep in data else 'neither a folder nor one of ' + known}")


def list_real(data: str, root: Path | None, split: str) -> Listing:
    """List a folder, or a set of ``FOLDER_SETS`` under ``root``. Without a root such a name may be a folder's.

    Raises:
        DataError: it is not there, or there is nothing to list.
    """
    if data in FOLDER_SETS and not (root is None and Path(data).is_dir()):
        folder, classes = find_folder(data, root)
        return list_images(folder, split, name=data, classes=classes).tell()
    return list_images(Path(data), split).tell()
