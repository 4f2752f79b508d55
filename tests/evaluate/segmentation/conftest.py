"""Drawn shapes with index masks: a red box and a blue disc on noise, and void around the disc."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrep.encoders import EncoderFacts, build_encoder, save_encoder
from genrep.evaluate.segmentation import config as presets

COUNTS = {"train": 12, "val": 5}


def drawn(number: int, split: str) -> tuple[Image.Image, Image.Image]:
    """An image of its own size, and its mask with a palette."""
    random = np.random.RandomState([number, len(split)])
    height, width = 40 + 4 * (number % 3), 48 - 2 * (number % 4)
    pixels = random.randint(90, 160, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    top, left = random.randint(2, 8), random.randint(2, 6)
    pixels[top : top + 16, left : left + 14], mask[top : top + 16, left : left + 14] = (230, 40, 30), 1
    y, x = np.mgrid[:height, :width]
    far = np.hypot(y - height + 14, x - width + 13)
    pixels[far < 10], mask[far < 12], mask[far < 10] = (30, 40, 230), 255, 2
    labels = Image.fromarray(mask)
    labels.putpalette(random.randint(0, 256, 768).astype(np.uint8).tobytes())  # its colours mean nothing
    return Image.fromarray(pixels), labels


def write_folder(root: Path, counts: dict[str, int] = COUNTS) -> Path:
    """images/SPLIT/ and masks/SPLIT/."""
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            image, mask = drawn(number, split)
            image.save(root / "images" / split / f"{number:02}.png")
            mask.save(root / "masks" / split / f"{number:02}.png")
    return root


def write_voc(root: Path, counts: dict[str, int] = COUNTS) -> Path:
    """Pascal VOC's layout."""
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for split, count in counts.items():
        names = [f"{split}_{number:02}" for number in range(count)]
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for number, name in enumerate(names):
            image, mask = drawn(number, split)
            image.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            mask.save(root / "SegmentationClass" / f"{name}.png")
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 training and 5 test images, in the layout of a plain folder."""
    return write_folder(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture
def own_shapes(tmp_path: Path) -> Path:
    """Three training images and one test image, to be spoilt."""
    return write_folder(tmp_path / "own", {"train": 3, "val": 1})


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as Pascal VOC's."""
    return write_voc(tmp_path_factory.mktemp("data") / "VOC2012")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A small encoder's file by its architecture."""
    folder = tmp_path_factory.mktemp("encoders")

    def build(arch: str) -> Path:
        path = folder / f"{arch.partition(':')[0]}.safetensors"
        if not path.exists():
            stem, model = ("patch", {"patch_size": 8}) if arch.startswith("vit") else ("cifar", {})
            facts = EncoderFacts(arch=arch, stem=stem, size=32, mean=(0.5,) * 3, std=(0.25,) * 3, model=model)
            save_encoder(path, build_encoder(arch, stem, seed=1, size=32, model=model), facts)
        return path

    return build


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets ``small`` and ``capi`` at the size of these images."""
    linear = replace(presets.PRESETS["small"], size=32, crop=32, stride=24, batch_size=4, steps=6, distort=True)
    monkeypatch.setitem(presets.PRESETS, "small", linear)
    monkeypatch.setitem(presets.PRESETS, "capi", replace(presets.PRESETS["capi"], size=32))
