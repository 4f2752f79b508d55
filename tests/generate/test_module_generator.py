"""Anyone's own generator: what it can get wrong, each in one line, and the documented example of a VAE decoder."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from genrep import datasets_manifest
from genrep.errors import GeneratorError, RecipeError
from genrep.generate import BuildConfig, build_dataset, load_generator
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


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
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
