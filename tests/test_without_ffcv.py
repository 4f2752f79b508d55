"""Only ``genrep.train.ffcv_pipelines`` and Figure 3, which measures FFCV's loader, import ffcv; nothing imports OpenCV.

The installation asks for neither, and no test sees them that does not say so.
"""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from genrep.images import turbojpeg

ROOT = Path(__file__).parent.parent
FOLDERS = ("src/genrep", "papers", "generate", "train", "evaluate", "datasets_manifest")


def imported(path: Path) -> Iterator[str]:
    """What a file imports at any depth, by a statement or by name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (str(value.value) for value in node.args if isinstance(value, ast.Constant))


def test_who_imports_ffcv_and_opencv() -> None:
    found = {"ffcv": set(), "cv2": set()}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for name in imported(path):
                if (package := name.partition(".")[0]) in found:
                    found[package].add(str(path.relative_to(ROOT)))
    assert found == {"ffcv": {"train/data/ffcv_pipelines.py", "papers/figure3/ways.py"}, "cv2": set()}


def test_ffcv_is_an_extra_that_the_tests_have() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    names = {line.split("=")[0] for line in re.split(r"\n", parser["options"]["install_requires"]) if line}
    assert {"ffcv", "opencv-python", "opencv-python-headless"}.isdisjoint(
        {re.split("[<>=~]", name)[0] for name in names}
    )
    extras = parser["options.extras_require"]
    assert extras["ffcv"].split() == ["ffcv==1.0.2"]
    assert "genrep[ffcv,testing,testing-cloud,testing-formats]" in extras["test"].split()
    assert "ffcv" not in extras["testing"]


@pytest.mark.parametrize("name", ["ffcv", "ffcv.fields", "cv2"])
def test_a_test_sees_neither(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
    assert importlib.util.find_spec(name.partition(".")[0]) is None
    assert turbojpeg.library() is None


@pytest.mark.ffcv
@pytest.mark.filterwarnings("ignore")
def test_a_test_that_says_so_sees_both_and_what_there_is_of_libturbojpeg() -> None:
    for name in ("ffcv", "ffcv.fields", "cv2"):
        assert importlib.import_module(name).__name__ == name
    assert (turbojpeg.library() is None) == (turbojpeg.search() is None)


def test_what_one_has_imported_the_next_does_not_see() -> None:
    assert not [name for name, module in sys.modules.items() if name.partition(".")[0] in ("ffcv", "cv2") and module]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ffcv.fields")
