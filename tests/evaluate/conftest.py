"""A small image folder with labels, and an encoder on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genrep.encoders import EncoderFacts, build_encoder, save_encoder

FACTS = EncoderFacts(arch="resnet18", stem="imagenet", size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CLASSES = ("dark", "middle", "light")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of brightness, 12 training and 5 test images each."""
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    stream = np.random.RandomState(0)
    for split, count in (("train", 12), ("test", 5)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = stream.normal(50 + 75 * label, 10, (16, 16, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("run")
    save_encoder(folder / "encoder.safetensors", build_encoder("resnet18", "imagenet", seed=1), FACTS)
    return folder
