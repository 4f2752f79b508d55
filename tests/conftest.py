"""What every test needs: a parser that the garbage collector does not break; a labelled image folder and an encoder."""

from __future__ import annotations

import ast
import gc
import sys
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 11, 8) or (3, 12) <= sys.version_info < (3, 12, 2):
    # These interpreters keep one depth counter for all calls of ast.parse. A collection inside a call can run a finaliser whose
    # traceback is formatted, which calls ast.parse again; the outer call then ends in "SystemError: AST constructor recursion
    # depth mismatch" (https://github.com/python/cpython/issues/106905). Numba, FFCV, torch.save and pytest's own reports all
    # parse source, so a test fails, or pytest itself, at the collector's whim. Without a collection inside, none does.
    _parse = ast.parse

    def _parse_uncollected(*args, **kwargs):
        enabled = gc.isenabled()
        gc.disable()
        try:
            return _parse(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()

    ast.parse = _parse_uncollected


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
    from genrep.encoders import EncoderFacts, build_encoder, save_encoder

    facts = EncoderFacts(arch="resnet18", stem="imagenet", size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    folder = tmp_path_factory.mktemp("run")
    save_encoder(folder / "encoder.safetensors", build_encoder("resnet18", "imagenet", seed=1), facts)
    return folder
