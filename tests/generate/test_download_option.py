"""``--download``: on a machine without the real images, the commands that read them fetch them, once."""

import importlib.resources
from pathlib import Path

import numpy as np
import pytest
import torchvision

from genrep.cli import invoke
from genrep.datasets_manifest import open as open_dataset
from genrep.generate.cli import cli
from genrep.generate.fits.config import FilterConfig
from genrep.generate.gan.config import FitGanConfig

WEIGHTS = str(importlib.resources.files("genrep.generate.weights") / "stylegan2_fashion.safetensors")
GAN = "--channel-base 64 --channel-max 4 --z-dim 4 --w-dim 4 --batch-size 4 --snapshot-images 4 --total-images 4"
FLOW = "--channels 4,8 --norm-groups 4 --embedding 4 --batch-size 4 --snapshot-images 4 --total-images 4"
COMMANDS = {
    "from-folder": "from-folder fashion_mnist --out out --shard-size 600",
    "fit-gan": f"fit-gan --data fashion_mnist --out out {GAN} --precision fp32 --device cpu",
    "fit-diffusion": f"fit-diffusion --data fashion_mnist --out out {FLOW} --precision fp32 --device cpu",
    "fit-filter": "fit-filter --gen stylegan2_fashion --data fashion_mnist --out out --images 8 --batch-size 4 --device cpu",
    "measure-gan": "measure-gan --weights OURS --data fashion_mnist --out q.json --num-images 100 --device cpu",
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """torchvision's server, with 600 images of a split; lists what was asked of it."""
    asked = []

    def download(self):
        asked.append(self.root)
        folder = Path(self.raw_folder)
        folder.mkdir(parents=True, exist_ok=True)
        stream = np.random.RandomState(0)
        for prefix in ("train", "t10k"):
            images = stream.randint(0, 256, (600, 28, 28)).astype(np.uint8)
            for kind, array in (("images-idx3", images), ("labels-idx1", (np.arange(600) % 10).astype(np.uint8))):
                header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
                (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", download)
    monkeypatch.chdir(tmp_path)
    return asked


def arguments(name, *more):
    return [WEIGHTS if word == "OURS" else word for word in COMMANDS[name].split()] + ["--root", "data", *more]


@pytest.mark.parametrize("name", COMMANDS)
def test_without_it_the_message_names_an_option_that_the_command_has(server, capsys, name):
    assert invoke(cli, arguments(name)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("dataset fashion_mnist: not found: there is no folder data; --download fetches it")
    assert "--download" in [option for parameter in cli.commands[name].params for option in parameter.opts]
    assert server == [] and not Path("data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_with_it_the_images_are_fetched_once(server, name):
    assert invoke(cli, arguments(name, "--download")) == 0
    assert server == [Path("data")]
    if name == "from-folder":
        assert len(open_dataset("out")) == 600
    assert invoke(cli, [*arguments(name, "--download"), "--out", "another"]) == 0
    assert len(server) == 1


@pytest.mark.parametrize("config", [FitGanConfig, FilterConfig])
def test_a_run_goes_on_with_or_without_it(config):
    settings = {"data": "fashion_mnist", "out": Path("out"), **({"gen": "x"} if config is FilterConfig else {})}
    assert config(**settings, download=True).identity() == config(**settings).identity()
    assert "download" not in config(**settings).identity()  # as in runs that were begun before there was the option
