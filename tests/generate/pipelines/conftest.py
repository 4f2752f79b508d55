"""Tiny pipelines on disk, written once, and their generators."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genrep.generate.generators.diffusers import family


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    """``written(function, **arguments)``: the folder that it wrote, and what it returned; each once."""
    found: dict[str, tuple[Path, Any]] = {}

    def write(function: Callable[..., Any], **arguments: Any) -> tuple[Path, Any]:
        key = f"{function.__name__} {sorted(arguments.items(), key=str)}"
        if key not in found:
            folder = tmp_path_factory.mktemp("pipeline") / "model"
            found[key] = folder, function(folder, **arguments)
        return found[key]

    return write


@pytest.fixture
def copied(written: Callable[..., tuple[Path, Any]], tmp_path: Path) -> Callable[..., Path]:
    """``copied(function, **arguments)``: a folder of one's own to damage."""

    def copy(function: Callable[..., Any], **arguments: Any) -> Path:
        return Path(shutil.copytree(written(function, **arguments)[0], tmp_path / "model"))

    return copy


@pytest.fixture
def opened() -> Callable[..., Any]:
    """``opened(folder, **options)``: the generator in it."""
    return lambda folder, **options: family.open_folder(folder, **options).generator


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    """Few tests need any; as builds of datasets do, the library's pipelines run without."""
    with torch.no_grad():
        yield
