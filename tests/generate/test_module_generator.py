"""Anyone's own generator: what it can get wrong, each in one line, and the documented example of a VAE decoder."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.errors import GeneratorError, RecipeError
from genrep.generate import BuildConfig, build_dataset, load_generator
from genrep.generate.cli import cli
from genrep.generate.generators.probe import require_gradient

EXAMPLE = Path(__file__).parents[2] / "docs/examples/vae_decoder.py"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("wrong_shape", r"images of shape \(2, 3, 4, 8\), wanted \(2, 3, 8, 8\)"),
        ("integers", "synthesize gave torch.int32, wanted a float tensor"),
        ("bytes_range", r"image values up to 2\d\d.*, wanted finite and nominally in \[-1, 1\]"),
        ("elsewhere", "images on meta, wanted cpu where the latents are"),
        ("raising", r"synthesize raised ValueError for z \(2, 6\) on cpu: no more ideas"),
        ("odd_latent", "latent is a int, wanted a genrep.generate.LatentSpec"),
        ("odd_classes", "num_classes is None, wanted an integer"),
        ("odd_shape", r"image_shape is 8, wanted \(height, width\)"),
        ("no_latent", "the generator has no attribute 'latent'"),
        ("broken", "the factory raised RuntimeError: no such checkpoint"),
    ],
)
def test_what_a_generator_gets_wrong_is_said_before_anything_is_built(toy_folder, factory, message):
    with pytest.raises(GeneratorError, match=message) as error:
        load_generator(f"toygen:{factory}")
    assert f"toygen:{factory}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("without_gradient", "carry no gradient back to z"),
        ("numpy_inside", "raised RuntimeError for a z that requires"),
    ],
)
def test_a_missing_gradient_is_said_where_one_is_needed(toy_folder, factory, message):
    generator = load_generator(f"toygen:{factory}")  # enough for a dataset
    with pytest.raises(GeneratorError, match=message):
        require_gradient(generator, f"toygen:{factory}", "cpu")


def test_a_generator_with_a_gradient_passes(toy_folder):
    require_gradient(load_generator("toygen:plain"), "toygen:plain", "cpu")


def test_a_module_is_frozen_and_in_eval_mode(toy_folder):
    generator = load_generator("toygen:module")
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:FutureWarning")
def test_a_scripted_network_is_taken(toy_folder):
    generator = load_generator("toygen:scripted")
    assert not generator.network.training and generator.synthesize(torch.zeros(2, 192)).shape == (2, 3, 8, 8)


def test_options_belong_to_the_factory(toy_folder):
    with pytest.raises(RecipeError, match="takes no option 'truncation'; its factory decides"):
        load_generator("toygen:plain", truncation=0.7)


def test_a_module_that_raises_while_it_is_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "unready.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="unready:make: importing it raised ZeroDivisionError"):
        load_generator("unready:make")


@pytest.mark.slow
def test_the_documented_vae_decoder_makes_a_dataset(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("vae_decoder", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setitem(sys.modules, "vae_decoder", example)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bright = torch.rand(64, 1, 1, 1).mul(2).sub(1).expand(-1, 1, 32, 32)  # flat images of random brightness
        torch.save(example.train(bright, steps=200).state_dict(), "decoder.pt")
    build_dataset(BuildConfig(gen="vae_decoder:Decoder", out=tmp_path / "out", num_pairs=40, device="cpu", processes=1))
    means = [pair["anchor"].mean() for pair in datasets_manifest.open(tmp_path / "out")]
    assert max(means) - min(means) > 64  # it learned that brightness varies


RANGES = """
import torch
from genrep.generate import LatentSpec


class Any:
    latent, num_classes, image_shape = LatentSpec(dim=4), 0, (8, 8)

    def __init__(self):
        self.w = torch.randn(4, 192, generator=torch.Generator().manual_seed(0))

    def x(self, z):
        return (z @ self.w).view(-1, 3, 8, 8)


def make(name, function, **attributes):
    kind = type(name, (Any,), {"synthesize": lambda self, z, y=None: function(self.x(z)), **attributes})
    globals()[name] = kind


make("unit", torch.sigmoid)
make("digits", lambda x: torch.relu(torch.tanh(x)))  # black in most places
make("sixteen", lambda x: 16 * torch.sigmoid(x))
make("bytes", lambda x: 255 * torch.sigmoid(x))
make("meant", torch.sigmoid, allow_range=True)
make("odd", torch.sigmoid, allow_range="yes")
make("tanh", torch.tanh)
make("bright", lambda x: 0.7 + 0.3 * torch.tanh(x))
make("pastel", lambda x: torch.tanh(x / 4 + 2))
make("dark", lambda x: -0.8 + 0.2 * torch.tanh(x))
make("gray", lambda x: 0 * x)
make("barely", lambda x: 0.3 + 0.01 * torch.tanh(x))
# Bright in two images of three: what is negative comes late.
make("seldom", lambda x: torch.where(x.mean(dim=(1, 2, 3), keepdim=True) > 0.05, torch.tanh(x), torch.sigmoid(x)))
make("conditional", lambda x: torch.sigmoid(x), num_classes=3)
"""


@pytest.fixture
def ranges(tmp_path, monkeypatch):
    (tmp_path / "ranges.py").write_text(RANGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "ranges", raising=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "unit",
            "no value below 0 and values up to 1 in 64 images, wanted nominally [-1, 1]; if its range is [0, 1], return 2x",
        ),
        ("digits", "if its range is [0, 1], return 2x - 1; if it is right, set allow_range = True on the generator"),
        ("conditional", "if its range is [0, 1], return 2x - 1"),
        (
            "sixteen",
            "values up to 16 in 64 images, wanted nominally [-1, 1]; if its range is [0, 16], return 2x / 16 - 1",
        ),
        ("bytes", "if its range is [0, 255], return x / 127.5 - 1"),
        ("odd", "allow_range is 'yes', wanted True or False"),
    ],
)
def test_a_range_that_cannot_be_right_is_refused_with_its_mend(ranges, tmp_path, capsys, name, words):
    arguments = [
        "dataset",
        "--gen",
        f"ranges:{name}",
        "--num-pairs",
        "4",
        "--out",
        str(tmp_path / "out"),
        "--processes",
        "1",
    ]
    assert invoke(cli, arguments) == 1
    message = capsys.readouterr().err
    assert f"--gen ranges:{name}: " in message and words in message and message.count("\n") == 1
    assert not (tmp_path / "out/recipe.json").exists()


@pytest.mark.parametrize("name", ["tanh", "meant", "bright", "pastel", "dark", "gray", "barely", "seldom"])
def test_bright_and_dark_images_are_taken(ranges, capsys, name):
    load_generator(f"ranges:{name}")
    remark = capsys.readouterr().err
    assert ("bright images, or the range [0, 1]" in remark) == (name == "bright")
