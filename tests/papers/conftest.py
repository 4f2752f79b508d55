"""Stubs of tasks, a plan's slots, and a root with a Fashion-MNIST of a few images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from genrep.papers.tasks.scheduling import Slot
from genrep.papers.tasks.task import VERBS, Task, Verb


@dataclass(frozen=True, kw_only=True, eq=False)
class Stub(Task):
    """A task whose command is a line of Python, begun in the whole's folder with ``out`` (its own) defined."""

    code: str = ""

    def command(self, values: Mapping[str, str], device: str) -> list[str]:
        head = f"import os, pathlib, signal, sys, time; out = pathlib.Path({self.out!r})\n"
        return [sys.executable, "-c", head + self.code]


@pytest.fixture
def stub() -> Callable[..., Stub]:
    def make(name: str, code: str, *needs: Task, kind: str = "run") -> Stub:
        code = code + f"\n(out / 'final').write_text({name!r})"
        verb = Verb(name="stub", kind=kind, program=("stub",), identity="stub", final="final")
        return Stub(verb=verb, label=name, given={"name": name}, needs=needs, code=code)

    return make


@pytest.fixture
def slots() -> Callable[[int], list[Slot]]:
    """Slots of a machine that has as many GPUs."""

    def make(count: int) -> list[Slot]:
        cores = frozenset(os.sched_getaffinity(0))
        return [Slot(device="cuda", name="Stub GPU", visible=str(i), cores=cores) for i in range(count)]

    return make


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 training and 10 test images of each of the ten classes, which differ in brightness."""
    folder = tmp_path_factory.mktemp("root")
    raw = folder / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    stream = np.random.RandomState(0)
    for prefix, each in (("train", 20), ("t10k", 10)):
        labels = np.tile(np.arange(10, dtype=np.uint8), each)
        noise = stream.normal(20 * labels[:, None, None], 8, (10 * each, 28, 28))
        images = noise.clip(0, 255).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder


@pytest.fixture
def stub_figure3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program in the place of the one that Figure 3's task calls."""

    def put(code: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir(exist_ok=True)
        (folder / "stub_of_figure3.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setitem(VERBS, "figure3", replace(VERBS["figure3"], program=("stub_of_figure3",)))

    return put
