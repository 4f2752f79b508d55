"""What all tests need: an end, and a parser that the collector does not break. What many need: labelled images, an encoder.

With GENREP_WITHOUT_FFCV=1 the tests run as on a machine that has neither ffcv, nor the OpenCV that it brings, nor
libturbojpeg: those of interoperation with FFCV itself (marked ``ffcv``) are skipped, and the files that FFCV's writer makes for
others are made by ours.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


WITHOUT_FFCV = bool(os.environ.get("GENREP_WITHOUT_FFCV"))


class _NotInstalled:
    """Finds no ffcv and no OpenCV."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in ("ffcv", "cv2"):
            raise ModuleNotFoundError(f"No module named {name!r}: GENREP_WITHOUT_FFCV is set", name=name)


if WITHOUT_FFCV:
    from genrep.images import turbojpeg

    sys.meta_path.insert(0, _NotInstalled)
    turbojpeg.library = lambda: None
HAS_FFCV = not WITHOUT_FFCV and importlib.util.find_spec("ffcv") is not None
WITHOUT = {  # marker -> whether its tests can run here, and why not
    "ffcv": (HAS_FFCV, "without ffcv: of interoperation with FFCV itself"),
    "gpu": (torch.cuda.is_available(), "no GPU"),
}


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts what runs in the background so
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("GENREP_CI") and not WITHOUT_FFCV and not HAS_FFCV:
        raise pytest.UsageError("ffcv is not installed, and CI proves that FFCV reads our files and we read FFCV's")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, (possible, reason) in WITHOUT.items():
            if not possible and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _by_ffcv(path: Path, fields: list[dict[str, Any]], rows: Sequence[Any], page: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ffcv's dependencies
        from ffcv.fields import IntField, NDArrayField, RGBImageField
        from ffcv.writer import DatasetWriter

        writers: dict[str, Any] = {}
        for field in fields:
            if field["kind"] == "image" and field["encoding"] == "raw":
                writers[field["name"]] = RGBImageField()
            elif field["kind"] == "image":
                quality = int(field["encoding"].removeprefix("jpeg:"))
                writers[field["name"]] = RGBImageField(write_mode="jpg", jpeg_quality=quality)
            elif field["kind"] == "float32":
                writers[field["name"]] = NDArrayField(np.dtype("<f4"), tuple(field["shape"]))
            else:
                writers[field["name"]] = IntField()
        DatasetWriter(str(path), writers, page_size=page, num_workers=1).from_indexed_dataset(rows)


def _by_our_writer(path: Path, fields: list[dict[str, Any]], rows: Sequence[Any], page: int) -> None:
    from genrep.datasets_manifest.beton_writer import BetonWriter

    with BetonWriter(path, fields, len(rows), page) as writer:
        for i in range(len(rows)):
            writer.append([[value] for value in rows[i]])
        writer.finish()


@pytest.fixture(scope="session")
def write_ffcv() -> Callable[[Path, list[dict[str, Any]], Sequence[Any], int], None]:
    """``write_ffcv(path, fields, rows, page)``: a file by FFCV's own DatasetWriter; without ffcv by ours: the same bytes."""
    return _by_ffcv if HAS_FFCV else _by_our_writer


@pytest.fixture(scope="session")
def has_ffcv() -> bool:
    """Whether FFCV itself can be asked."""
    return HAS_FFCV


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
