"""What all tests need: an end, and a parser that the collector does not break. What many need: labelled images, an encoder.

A test sees a machine that has neither ffcv, nor the OpenCV that it brings, nor libturbojpeg, whatever this machine has. Those
of interoperation with FFCV itself are marked ``ffcv`` and see what is there.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import os
import random
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from genrep.images import turbojpeg

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


@pytest.fixture(autouse=True)
def _drawn_alike() -> None:
    """What a test draws depends on no test before it: it passes always or fails always, alone as well as among others."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


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


HAS_FFCV = importlib.util.find_spec("ffcv") is not None
_aside: dict[str, ModuleType] = {}  # modules that are hidden now
_libturbojpeg = turbojpeg.library


def _see_ffcv(seen: bool) -> None:
    """Show or hide ffcv, OpenCV and libturbojpeg, imported before or not."""
    if seen == (turbojpeg.library is _libturbojpeg):
        return
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ffcv", "cv2")]:
        if (module := sys.modules.pop(name)) is not None:
            _aside[name] = module
    sys.modules.update(_aside if seen else {"ffcv": None, "cv2": None})  # type: ignore[dict-item]  # None: importing it fails
    turbojpeg.library = _libturbojpeg if seen else lambda: None
    if kernels := sys.modules.get("genrep.train.data.kernels"):
        kernels.jpeg_decoder.cache_clear()


_see_ffcv(False)  # while files are collected, too


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _see_ffcv(item.get_closest_marker("ffcv") is not None)


WITHOUT = {  # marker -> whether its tests can run here, and why not
    "ffcv": (HAS_FFCV, "without ffcv: of interoperation with FFCV itself"),
    "gpu": (torch.cuda.is_available(), "no GPU"),
}


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts what runs in the background so
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("GENREP_CI") and not HAS_FFCV:
        raise pytest.UsageError("ffcv is not installed, and CI proves that FFCV reads our files and we read FFCV's")


@pytest.hookimpl(trylast=True)  # of what -m and -k leave
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("PYTEST_XDIST_WORKER"):  # workers take whole files: long ones first, so that all end together
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        count = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -count[item.path]))
    for item in items:
        for marker, (possible, reason) in WITHOUT.items():
            if not possible and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _by_ffcv(path: Path, fields: list[dict[str, Any]], rows: Sequence[Any], page: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ffcv's dependencies
        from ffcv.fields import FloatField, IntField, NDArrayField, RGBImageField
        from ffcv.writer import DatasetWriter

        writers: dict[str, Any] = {}
        for field in fields:
            if "stored" in field:  # false: no shard holds it
                continue
            if field["kind"] == "image" and field["encoding"] == "raw":
                writers[field["name"]] = RGBImageField()
            elif field["kind"] == "image":
                quality = int(field["encoding"].removeprefix("jpeg:"))
                writers[field["name"]] = RGBImageField(write_mode="jpg", jpeg_quality=quality)
            elif field["kind"] == "float32":
                writers[field["name"]] = NDArrayField(np.dtype("<f4"), tuple(field["shape"]))
            elif field["kind"] == "float":
                writers[field["name"]] = FloatField()
            else:
                writers[field["name"]] = IntField()
        DatasetWriter(str(path), writers, page_size=page, num_workers=1).from_indexed_dataset(rows)


def _by_our_writer(path: Path, fields: list[dict[str, Any]], rows: Sequence[Any], page: int) -> None:
    from genrep.datasets_manifest.beton_writer import BetonWriter

    with BetonWriter(path, fields, len(rows), page) as writer:
        for i in range(len(rows)):
            writer.append([[value] for value in rows[i]])
        writer.finish()


WriteBeton = Callable[[Path, list[dict[str, Any]], Sequence[Any], int], None]


@pytest.fixture(scope="session")
def write_beton() -> WriteBeton:
    """``write_beton(path, fields, rows, page)``: a file of rows, as FFCV's writer takes them, by our writer."""
    return _by_our_writer


@pytest.fixture(scope="session")
def write_ffcv() -> WriteBeton:
    """As ``write_beton``, by FFCV's own DatasetWriter, for tests that see it."""
    return _by_ffcv


@pytest.fixture(params=[_by_our_writer, pytest.param(_by_ffcv, marks=pytest.mark.ffcv)], ids=["ours", "ffcv"])
def write_either(request: pytest.FixtureRequest) -> WriteBeton:
    """The test runs with each of the two writers."""
    return request.param


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
