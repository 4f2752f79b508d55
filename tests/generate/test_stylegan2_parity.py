"""StyleGAN2 against outputs of the original code (tests/goldens/README.md says how they were made)."""

import json
from pathlib import Path

import pytest
import recipe
import torch

from genrep.generate.generators.stylegan2.generator import StyleGAN2Generator
from genrep.generate.pixels import to_uint8

GOLDENS = Path(__file__).parent.parent / "goldens"
TOLERANCE, W_TOLERANCE = 2e-4, 1e-5


def load(name):
    return torch.load(GOLDENS / name, weights_only=True)


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize(("case", "conv_clamp"), [("uncond64", None), ("cond32_fp16cfg", 256)])
def test_every_output_of_the_ada_network_is_reproduced(case, conv_clamp):
    state, golden = load(f"{case}/state_dict.pt"), load(f"{case}/golden.pt")

    def generator(**options):
        return StyleGAN2Generator.from_state(state, conv_clamp=conv_clamp, **options)

    y = golden["c"] if golden["c"].shape[1] else None
    plain = generator()
    assert largest_difference(plain.mapping(golden["z"], y), golden["w"][:, 0]) <= W_TOLERANCE
    assert largest_difference(plain.synthesize(golden["z"], y), golden["img"]) <= TOLERANCE
    assert largest_difference(plain.synthesize_w(golden["wplus"]), golden["img_wplus"]) <= TOLERANCE
    assert largest_difference(generator(noise="none").synthesize(golden["z"], y), golden["img_noise_none"]) <= TOLERANCE
    assert largest_difference(generator(truncation=0.7).synthesize(golden["z"], y), golden["img_psi0.7"]) <= TOLERANCE
    cut = generator(truncation=0.5, truncation_cutoff=int(golden["cutoff"]))
    assert largest_difference(cut.synthesize(golden["z"], y), golden["img_psi0.5_cut"]) <= TOLERANCE
    levels = to_uint8(plain.synthesize(golden["z"], y), "127.5x+128").int() - golden["uint8"].int()
    assert levels.abs().max() <= 1
    assert (levels != 0).float().mean() < 1e-3


def test_class_indices_and_one_hot_rows_are_the_same_condition():
    state, golden = load("cond32_fp16cfg/state_dict.pt"), load("cond32_fp16cfg/golden.pt")
    generator = StyleGAN2Generator.from_state(state, conv_clamp=256)
    y = golden["c"].argmax(dim=1)
    assert (
        largest_difference(generator.synthesize(golden["z"], y), generator.synthesize(golden["z"], golden["c"])) <= 1e-5
    )


def test_images_of_the_tensorflow_code_are_reproduced():
    state, golden = load("cfgf64/ada_state_dict.pt"), load("cfgf64/golden_tf.pt")
    generator = StyleGAN2Generator.from_state(state)
    assert largest_difference(generator.synthesize(golden["z"]), golden["img_psi1"]) <= TOLERANCE
    half = StyleGAN2Generator.from_state(state, truncation=0.5)
    assert largest_difference(half.synthesize(golden["z"]), golden["img_psi0.5_default"]) <= TOLERANCE


@pytest.mark.slow
def test_the_full_size_car_network_is_reproduced():
    shapes = json.loads((GOLDENS / "car512/keys_ada_car512.json").read_text())
    arrays = recipe.fill(shapes, 900, recipe.STYLEGAN2_ADA)
    generator = StyleGAN2Generator.from_state(
        {key: torch.from_numpy(value) for key, value in arrays.items()}, truncation=0.9
    )
    golden = load("car512/golden_car512.pt")
    images = generator.synthesize(golden["z"])
    expected = golden["psi0_9"]
    assert images.shape == (2, 3, 512, 512)
    assert largest_difference(torch.nn.functional.avg_pool2d(images, 8), expected["avgpool"]) <= 3e-4
    assert largest_difference(images[:, :, ::64], expected["rows"]) <= 3e-4
    assert largest_difference(images[:, :, 240:272, 240:272], expected["center32"]) <= 3e-4
    assert largest_difference(images[:, :, :8, :8], expected["corner8"]) <= 3e-4


def test_generators_are_frozen_yet_differentiable_in_z():
    generator = StyleGAN2Generator.from_state(load("uncond64/state_dict.pt"))
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())
    assert not generator.network.training
    z = torch.randn(2, 48, requires_grad=True)
    generator.synthesize(z).square().mean().backward()
    assert z.grad is not None and float(z.grad.abs().sum()) > 0


@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_other_architectures_are_recognised_from_their_tensors(architecture):
    from genrep.generate.generators.stylegan2.networks import StyleGAN2Config, StyleGAN2Network, infer_config

    config = StyleGAN2Config(
        z_dim=8, w_dim=8, resolution=16, channels=(8, 8, 4), architecture=architecture, num_mapping_layers=2
    )
    network = StyleGAN2Network(config)
    found = infer_config(network.state_dict())
    assert (found.architecture, found.channels, found.resolution) == (architecture, (8, 8, 4), 16)
    assert network(torch.randn(2, 8)).shape == (2, 3, 16, 16)
