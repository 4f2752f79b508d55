"""Folders in Pascal VOC's layout, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Object = tuple[str, tuple[float, float, float, float], int]  # class, VOC's xmin, ymin, xmax, ymax, difficult
OBJECT = """
  <object>
    <name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{difficult}</difficult>
    <bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>
  </object>"""
FILE = """<annotation>
  <folder>VOC2007</folder><filename>{name}.jpg</filename>
  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size><segmented>0</segmented>{objects}
</annotation>
"""


def write_voc(
    root: Path, images: Mapping[str, Sequence[Object]], splits: Mapping[str, str], size: tuple[int, int] = (60, 40)
) -> Path:
    """Gray images with noise; the mean gray of an image tells its number."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for number, (name, objects) in enumerate(images.items()):
        text = "".join(OBJECT.format(name=kind, box=box, difficult=difficult) for kind, box, difficult in objects)
        (root / "Annotations" / f"{name}.xml").write_text(FILE.format(name=name, size=size, objects=text))
        pixels = np.random.RandomState(number).randint(0, 100, (size[1], size[0], 3)) + 10 * (number % 15)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    for split, names in splits.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_bytes(names.encode())
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., Path]:
    """``voc(images, splits)`` -> the folder ``VOC2007``."""
    return lambda *arguments, **options: write_voc(tmp_path / "VOC2007", *arguments, **options)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright images show a lamp, dark ones an owl, some both; difficult ones among them. 45 images a split."""
    root = tmp_path_factory.mktemp("shapes") / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    random = np.random.RandomState(0)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for split, names in lists.items():
        for number in range(45):
            gray = random.randint(40, 215)
            kinds: list[Any] = [
                ("lamp", gray > 150 + random.randint(-40, 40)),
                ("owl", gray < 100 + random.randint(-40, 40)),
            ]
            difficult = int(number % 9 == 0)
            objects = [(kind, (2, 2, 20, 20), difficult) for kind, shown in kinds if shown]
            name = f"{split}{number:03d}"
            names.append(name)
            text = "".join(OBJECT.format(name=kind, box=box, difficult=hard) for kind, box, hard in objects)
            (root / "Annotations" / f"{name}.xml").write_text(FILE.format(name=name, size=(48, 36), objects=text))
            pixels = (gray + random.randint(-30, 30, (36, 48, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    lists["trainval"] = lists["train"] + lists["val"]
    for split, names in lists.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root
