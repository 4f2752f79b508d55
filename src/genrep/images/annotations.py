"""Labels of a split whose images lie in one folder: Tiny-ImageNet's ``val_annotations.txt``, lines of file, class, box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..untrusted import printable, read_bounded, shown
from .folders import PassedOver, bare_images, walk

LARGEST = 256 << 20  # bytes; Tiny-ImageNet's has 335 KB for 10,000 images


def find_annotations(base: Path) -> Path | None:
    """The list of labels in a split's folder, if there is one."""
    for name in (f"{base.name.lower()}_annotations.txt", "val_annotations.txt"):
        if (base / name).is_file():
            return base / name
    return None


def read_annotations(base: Path, table: Path, classes: Sequence[str], over: PassedOver) -> list[tuple[str, int]]:
    """Images with their labels, sorted by label, then name. Images that the table lacks go to ``over``.

    Args:
        base: the split's folder; the images lie in its ``images/``, or in it.
        table: from ``find_annotations``.
        classes: their places are the labels.

    Raises:
        DataError: the table names a class or file that is not there, names a file twice, or gives a class no image.
    """
    names = walk(base, "images", over) if (base / "images").is_dir() else bare_images(base, PassedOver())
    places = {name.rpartition("/")[2]: name for name in names}
    numbers = {name: label for label, name in enumerate(classes)}
    where = printable(str(table))
    labels: dict[str, int] = {}
    try:
        lines = read_bounded(table, LARGEST, DataError, follow=True).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: no UTF-8 text ({error.reason} at byte {error.start})") from None
    for k, line in enumerate(lines, 1):
        if not line.strip():
            continue
        file, _, rest = line.partition("\t")
        class_name = rest.partition("\t")[0].strip()
        if class_name not in numbers:
            raise DataError(f"{where}: line {k}: class {shown(class_name)}, which is no folder of the training images")
        if file not in places:
            raise DataError(f"{where}: line {k}: no image {shown(file)} in {printable(str(base))}")
        if places[file] in labels:
            raise DataError(f"{where}: line {k}: {shown(file)} for the second time")
        labels[places[file]] = numbers[class_name]
    if missing := sorted(set(range(len(classes))) - set(labels.values())):
        raise DataError(
            f"{where}: no image of {len(missing)} of {len(classes)} classes, e.g. {printable(classes[missing[0]])}"
        )
    if unlabelled := [name for name in names if name not in labels]:
        over.add(f"images that {table.name} lacks", unlabelled)
    return sorted(labels.items(), key=lambda item: (item[1], item[0]))
