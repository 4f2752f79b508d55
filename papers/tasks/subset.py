"""Write a few images of each class of a named dataset as an image folder, which scale ``tiny`` trains and tests on.

python -m genrep.papers.tasks.subset --dataset fashion_mnist --root data --train 200 --test 100 --out images

The folder has its own name, so that its results never stand beside those on the whole dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import run
from genrep.errors import DataError
from genrep.files import faults_named, locked_folder, write_json
from genrep.images.sets import load_images
from genrep.settings import config, from_options, options, setting

DONE_FILE = "done.json"


@config
class SubsetConfig:
    """Settings of a subset."""

    dataset: str = setting(metavar="NAME", help="Named dataset to take images from.")
    root: Path | None = setting(default=None, metavar="DIR", help="Folder that holds the named dataset.")
    train: int = setting(least=1, help="Number of training images, divided evenly over the classes.")
    test: int = setting(least=1, help="Number of test images, divided evenly over the classes.")
    out: Path = setting(metavar="DIR", help="Image folder to write.")


def write_subset(config: SubsetConfig) -> None:
    """Write the first images of each class as PNG files, ``out/<split>/<class>/NNNNN.png``, about as many of each.

    Raises:
        DataError: the dataset is not there, or has too few images of a class.
    """
    import numpy as np
    from PIL import Image

    counts = {"train": config.train, "test": config.test}
    with locked_folder(config.out):
        for split, count in counts.items():
            data = load_images(config.dataset, config.root, split)
            each = -(-count // len(data.classes))
            for label in range(len(data.classes)):
                rows = np.flatnonzero(data.labels == label)[:each]
                if len(rows) < each:
                    raise DataError(f"{config.dataset}, {split}: {len(rows)} images of class {label}, wanted {each}")
                folder = config.out / split / f"{label:03d}"
                folder.mkdir(parents=True, exist_ok=True)
                for number, row in enumerate(rows):
                    path = folder / f"{number:05d}.png"
                    with faults_named(path):
                        Image.fromarray(data.images[row]).save(path)
        write_json(config.out / DONE_FILE, {"dataset": config.dataset, **counts})


@click.command("subset")
@options(SubsetConfig)
def command(**values: Any) -> None:
    """Write a few images of each class of a named dataset as an image folder."""
    write_subset(from_options(SubsetConfig, values))


if __name__ == "__main__":
    run(command)
