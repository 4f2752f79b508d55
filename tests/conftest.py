"""What all tests need: an end, and a parser that the collector does not break. What many need: labelled images, an encoder."""

from __future__ import annotations

import ast
import gc
import signal
import sys
from collections.abc import Callable, Iterator
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


HANGS = 600  # seconds: no test takes a tenth of it


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """What waits for ever fails. No test compares clocks: on a busy machine they say nothing about the code."""

    def hung(*arguments: object) -> None:
        raise TimeoutError(f"still running after {HANGS} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANGS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def calls() -> Callable[[Callable[[], object]], int]:
    """How many Python functions a function calls: what it costs, told without a clock."""

    def count(function: Callable[[], object]) -> int:
        found = 0

        def called(frame: object, event: str, argument: object) -> None:
            nonlocal found
            found += event in ("call", "c_call")

        sys.setprofile(called)
        try:
            function()
        finally:
            sys.setprofile(None)
        return found

    return count


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
