"""A few images of each class of a named dataset as an image folder: what the scale ``tiny`` trains and tests on.

python -m genrep.papers.reproduce.subset --dataset fashion_mnist --root data --train 200 --test 100 --out images

A folder has a name of its own, so that its results stand beside no one's on the whole set.
"""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import run
from genrep.errors import DataError
from genrep.files import faults_named, locked_folder, write_json
from genrep.images.labelled import load_images
from genrep.option_types import COUNT, PATH, PATH_TEXT

DONE_FILE = "done.json"


def write_subset(dataset: str, root: Path | None, counts: dict[str, int], out: Path) -> None:
    """Write the first images of each class as PNG files, ``out/<split>/<class>/NNNNN.png``, about as many of each.

    Raises:
        DataError: the dataset is not there, or has too few images of a class.
    """
    import numpy as np
    from PIL import Image

    with locked_folder(out):
        for split, count in counts.items():
            data = load_images(dataset, root, split)
            each = -(-count // len(data.classes))
            for label in range(len(data.classes)):
                rows = np.flatnonzero(data.labels == label)[:each]
                if len(rows) < each:
                    raise DataError(f"{dataset}, {split}: {len(rows)} images of class {label}, wanted {each}")
                folder = out / split / f"{label:03d}"
                folder.mkdir(parents=True, exist_ok=True)
                for number, row in enumerate(rows):
                    path = folder / f"{number:05d}.png"
                    with faults_named(path):
                        Image.fromarray(data.images[row]).save(path)
        write_json(out / DONE_FILE, {"dataset": dataset, **counts})


@click.command("subset")
@click.option("--dataset", type=PATH_TEXT, required=True)
@click.option("--root", type=PATH)
@click.option("--train", type=COUNT, required=True)
@click.option("--test", type=COUNT, required=True)
@click.option("--out", type=PATH, required=True)
def command(dataset: str, root: Path | None, train: int, test: int, out: Path) -> None:
    """Write a few images of each class as a folder."""
    write_subset(dataset, root, {"train": train, "test": test}, out)


if __name__ == "__main__":
    run(command)
