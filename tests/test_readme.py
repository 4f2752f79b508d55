"""The code in README.md runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from genrep.cli import invoke
from genrep.datasets_manifest import read_manifest
from genrep.generate.cli import cli

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
NETWORK = """
import torch

class MyDecoder(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(64, 3 * 64 * 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 64, 64)))
"""


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
    (here / "mynetwork.py").write_text(NETWORK)
    names = {}
    exec(NETWORK, names)
    torch.save(names["MyDecoder"]().state_dict(), here / "decoder.pt")
    options = ["--num-pairs", "4", "--processes", "1", "--device", "cpu", "--encoding", "raw"]
    views = ["--views", "hierarchical:over=chunks,1=genrep-gaussian"]
    assert invoke(cli, ["dataset", "--gen", "mymodel:Mine", *options, *views, "--out", "shards"]) == 0
    latent = read_manifest("shards").recipe["latent"]
    assert latent["shape"] == [64] and len(latent["chunks"]) > 1


@pytest.mark.filterwarnings("ignore:The distutils package is deprecated:DeprecationWarning")
def test_what_is_done_from_python(here):
    (block,) = [block for block in BLOCKS if not block.startswith("# mymodel.py")]
    assert invoke(cli, ["dataset", "--num-pairs", "50", "--processes", "1", "--device", "cpu", "--out", "shards"]) == 0
    names = {"z": torch.zeros(2, 128)}
    exec(block, names)
    assert names["images"].shape == (2, 3, 32, 32)
    assert names["pair"]["index"] == 42
    assert set(names["batch"]) >= {"anchor", "positive", "z_anchor", "index"} and len(names["batch"]["index"]) == 50
