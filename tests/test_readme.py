"""The code in README.md runs as it stands there."""

import re
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import read_manifest
from genrep.generate.cli import cli

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_examples_are_found():
    assert len(BLOCKS) == 2


@pytest.mark.filterwarnings("ignore:The distutils package is deprecated:DeprecationWarning")
def test_a_generator_of_ones_own(here):
    (block,) = [block for block in BLOCKS if block.startswith("# mymodel.py")]
    (here / "mymodel.py").write_text(block)
    options = ["--num-pairs", "4", "--processes", "1", "--device", "cpu", "--encoding", "raw"]
    views = ["--views", "hierarchical:over=chunks,1=genrep-gaussian"]
    assert invoke(cli, ["dataset", "--gen", "mymodel:Mine", *options, *views, "--out", "mine"]) == 0
    latent = read_manifest("mine").recipe["latent"]
    assert latent["shape"] == [64] and len(latent["chunks"]) > 1


@pytest.mark.filterwarnings("ignore:The distutils package is deprecated:DeprecationWarning")
def test_what_is_done_from_python(here):
    (block,) = [block for block in BLOCKS if not block.startswith("# mymodel.py")]
    assert invoke(cli, ["dataset", "--num-pairs", "50", "--processes", "1", "--device", "cpu", "--out", "shards"]) == 0
    names = {}
    exec(block, names)
    said = re.search(r"# a dict: (.*)", block)
    assert said is not None and set(names["pair"]) == set(said[1].split(", "))
    assert names["pair"]["index"] == 42
    assert set(names["batch"]) == set(names["pair"]) and len(names["batch"]["index"]) == 50
    assert names["anchors"].shape == (50, 32, 32, 3)
