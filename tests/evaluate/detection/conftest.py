"""A tiny data set in Pascal VOC's layout: coloured rectangles on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrep.encoders import EncoderFacts, build_encoder, save_encoder
from genrep.evaluate.detection import config as presets

COLOURS = {"blue": (30, 40, 230), "red": (230, 40, 30)}
SIZE = (96, 72)
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_rectangles(root: Path, splits: dict[str, int], *, seed: int) -> Path:
    """One rectangle of each colour an image; every fourth image's red one is difficult."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    random = np.random.RandomState(seed)
    for split, count in splits.items():
        names = [f"{split}{number:02d}" for number in range(count)]
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            pixels = random.randint(90, 150, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
            objects = []
            for place, (kind, colour) in enumerate(COLOURS.items()):
                x, y = 48 * place + random.randint(0, 12), random.randint(0, 30)
                width, height = random.randint(20, 34, 2)
                pixels[y : y + height, x : x + width] = colour
                hard = int(kind == "red" and number % 4 == 3)
                objects.append(OBJECT.format(kind, hard, x + 1, y + 1, x + width, y + height))
            size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 training and 4 test images."""
    return write_rectangles(tmp_path_factory.mktemp("data") / "rectangles", {"trainval": 8, "test": 4}, seed=0)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("run")
    facts = EncoderFacts(arch="resnet18", stem="imagenet", size=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    save_encoder(folder / "encoder.safetensors", build_encoder("resnet18", "imagenet", seed=1), facts)
    return folder


TINY = presets.DetectionPreset(
    source="the tests'",
    batch_size=2,
    lr=0.02,
    steps=6,
    warmup=2,
    clip_norm=10.0,
    min_sizes=(64, 72),
    max_size=128,
    test_size=72,
    test_max_size=128,
    anchors=(16, 32, 64),
    pool=4,
    rois=16,
    rpn_train=(200, 50),
    rpn_test=(100, 30),
    precise_bn=3,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> presets.DetectionPreset:
    """``--preset small`` at the size of these images."""
    monkeypatch.setitem(presets.PRESETS, "small", TINY)
    return TINY
