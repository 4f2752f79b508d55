"""The package is light: labs look at datasets without torch, and --help is instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import genrep.datasets_manifest as package

HEAVY = ("torch", "torchvision", "ffcv", "numba", "cv2")


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_nothing_heavy_is_imported(originals: dict[str, Path]) -> None:
    for code in ("import genrep.datasets_manifest", "import genrep.datasets_manifest.cli"):
        assert not modules_after(code) & {*HEAVY, "numpy", "PIL"}
    folder = originals["jpeg"]
    used = "from genrep import datasets_manifest\nfrom genrep.datasets_manifest.verify import verify\n"
    used += f"assert verify({str(folder)!r}, 'full') == []\ndatasets_manifest.open({str(folder)!r})[0]"
    assert not modules_after(used) & set(HEAVY)


def test_every_name_is_there() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert package.open is package.open_dataset and "open" not in package.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018
