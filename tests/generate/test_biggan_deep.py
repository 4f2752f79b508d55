"""BigGAN-deep against outputs of the original code (tests/goldens/README.md says how they were made)."""

import json
import math
import shutil
from pathlib import Path

import pytest
import recipe
import torch

from genrep.errors import GeneratorError, WeightsError
from genrep.generate.generators.base import checkpoint_from_safetensors, save_checkpoint
from genrep.generate.generators.biggan_deep import family
from genrep.unpickle import read_file

GOLDENS = Path(__file__).parent.parent / "goldens"
SMALL, FULL = GOLDENS / "biggan_deep_small64", GOLDENS / "biggan_deep_full"
TOLERANCE = 1e-4


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def recognised(path=SMALL / "pytorch_model.bin"):
    return family.recognise(read_file(path), path, named=False)


@pytest.fixture(scope="module")
def checkpoint():
    return recognised()


@pytest.fixture(scope="module")
def golden():
    return torch.load(SMALL / "golden.pt", weights_only=True)


@pytest.mark.parametrize("truncation", [1.0, 0.4, 0.43, 0.435, 0.58, 0.14, 0.01, 0.999])
def test_images_at_every_truncation_are_reproduced(checkpoint, golden, truncation):
    generator = family.open_checkpoint(checkpoint, truncation=truncation)
    classes = golden["y"].argmax(dim=1)
    for y in (golden["y"], classes):
        images = generator.synthesize(golden["z"], y)
        assert images.shape == (3, 3, 64, 64)
        assert largest_difference(images[:, :, ::2, ::2], golden[f"img_t{truncation}"]) <= TOLERANCE


def test_soft_classes_are_reproduced(checkpoint, golden):
    images = family.open_checkpoint(checkpoint, truncation=0.4).synthesize(golden["z"], golden["y_soft"])
    assert largest_difference(images[:, :, ::2, ::2], golden["img_soft_t0.4"]) <= TOLERANCE


@pytest.mark.slow
def test_the_full_size_network_is_reproduced():
    shapes = json.loads((FULL / "keys_deep256.json").read_text())
    arrays = recipe.finalize_hf_sn(recipe.fill(shapes, 910, recipe.BIGGAN_HF))
    content = {key: torch.from_numpy(value) for key, value in arrays.items()}
    checkpoint = family.recognise(content, Path("no-config-beside.bin"), named=False)
    golden = torch.load(FULL / "golden_deep256.pt", weights_only=True)
    for truncation, expected in ((0.4, golden["t0_4"]), (0.43, golden["t0_43"])):
        generator = family.open_checkpoint(checkpoint, truncation=truncation)
        images = generator.synthesize(golden["z"][:1], golden["classes"][:1])
        assert images.shape == (1, 3, 256, 256)
        assert largest_difference(torch.nn.functional.avg_pool2d(images, 4), expected["avgpool"][:1]) <= TOLERANCE
        assert largest_difference(images[:, :, ::32], expected["rows"][:1]) <= TOLERANCE
        assert largest_difference(images[:, :, 112:144, 112:144], expected["center32"][:1]) <= TOLERANCE
        assert largest_difference(images[:, :, :8, :8], expected["corner8"][:1]) <= TOLERANCE


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("with_config", [True, False])
def test_the_published_files_tensors_make_networks_of_their_size(tmp_path, size, with_config):
    if with_config:
        shutil.copy(FULL / f"config_deep{size}.json", tmp_path / f"biggan-deep-{size}-config.json")
    shapes = json.loads((FULL / f"keys_deep{size}.json").read_text())
    content = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    checkpoint = family.recognise(content, tmp_path / f"biggan-deep-{size}-pytorch_model.bin", named=False)
    assert set(checkpoint.tensors) == set(shapes)
    generator = family.open_checkpoint(checkpoint, device="meta")
    assert (generator.image_shape, generator.num_classes, generator.latent.dim) == ((size, size), 1000, 128)
    images = generator.synthesize(torch.empty(2, 128, device="meta"), torch.empty(2, 1000, device="meta"))
    assert images.shape == (2, 3, size, size)


def test_statistics_are_interpolated_as_the_published_code_does():
    table = torch.arange(51.0)[:, None]
    for k in range(1, 1001):
        truncation = k / 1000
        fraction, whole = math.modf(truncation / (1.0 / 50))
        i = int(whole)
        expected = i if fraction == 0 else i * fraction + (i + 1) * (1 - fraction)
        assert float(family.statistics(table, truncation)) == pytest.approx(expected, abs=1e-9)
    assert float(family.statistics(table, 0.435)) == pytest.approx(21.25)  # not 21.75
    assert float(family.statistics(table, 0.14)) == pytest.approx(8)  # not 7
    assert float(family.statistics(torch.arange(50.0)[:, None], 1.0)) == pytest.approx(49)  # no row beyond the last


def test_the_folded_upsampling_is_upsampling_and_a_convolution():
    x = torch.randn(2, 5, 3, 4, dtype=torch.double)
    weight = torch.randn(6, 5, 3, 3, dtype=torch.double)
    plain = torch.nn.functional.conv2d(torch.nn.functional.interpolate(x, scale_factor=2.0), weight, padding=1)
    folded = torch.nn.functional.conv_transpose2d(x, family.upsampling(weight), stride=2, padding=1)
    assert largest_difference(plain, folded) < 1e-12


def test_images_do_not_depend_on_the_batch(checkpoint, golden):
    generator = family.open_checkpoint(checkpoint, truncation=0.4)
    together = generator.synthesize(golden["z"], golden["y"])
    alone = [generator.synthesize(golden["z"][i : i + 1], golden["y"][i : i + 1]) for i in range(3)]
    assert largest_difference(together, torch.cat(alone)) <= 2e-5


def test_generators_are_frozen_yet_differentiable_in_z(checkpoint, golden):
    generator = family.open_checkpoint(checkpoint, truncation=0.4)
    assert not any(tensor.requires_grad for tensor in generator.network.state_dict(keep_vars=True).values())
    assert not generator.network.training
    direction = torch.nn.functional.normalize(torch.randn(3, 24, generator=torch.Generator().manual_seed(1)), dim=1)
    generator.network.double()
    y = golden["y"].double()

    def value(step):
        z = (golden["z"].double() + step * direction).requires_grad_()
        images = generator.network(z, y @ generator.network.embeddings)
        return z, images.square().sum()

    z, loss = value(0.0)
    loss.backward()
    difference = (value(1e-5)[1] - value(-1e-5)[1]).item() / 2e-5
    assert float((z.grad * direction).sum()) == pytest.approx(difference, rel=1e-5)


def test_latents_follow_the_truncation(checkpoint):
    latent = family.open_checkpoint(checkpoint, truncation=0.4).latent
    assert (latent.law, latent.truncation, latent.scale) == ("truncated_normal", 2.0, 0.4)


def test_a_checkpoint_survives_being_stored(checkpoint, golden, tmp_path):
    save_checkpoint(checkpoint, tmp_path / "weights.safetensors")
    again = checkpoint_from_safetensors(tmp_path / "weights.safetensors")
    assert (again.config, again.digest()) == (checkpoint.config, checkpoint.digest())
    first, second = (family.open_checkpoint(c).synthesize(golden["z"], golden["y"]) for c in (checkpoint, again))
    assert torch.equal(first, second)


@pytest.mark.parametrize("truncation", [0.0, -0.5, 1.01, math.nan, "0.5", True, None])
def test_a_truncation_without_statistics_is_refused(checkpoint, truncation):
    with pytest.raises(GeneratorError, match=r"^truncation .*0 < truncation <= 1$"):
        family.open_checkpoint(checkpoint, truncation=truncation)


@pytest.mark.parametrize(
    "y",
    [
        None,
        torch.tensor([0, 10, 1]),
        torch.tensor([0, -1, 1]),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.zeros(3, 9),
        torch.zeros(3, 10, 1),
        torch.tensor([1, 2]),
    ],
)
def test_classes_that_do_not_exist_are_refused(checkpoint, golden, y):
    generator = family.open_checkpoint(checkpoint)
    with pytest.raises(GeneratorError, match=r"^BigGAN-deep: [^\n]*wanted"):
        generator.synthesize(golden["z"], y)


def test_latents_of_another_size_are_refused(checkpoint):
    with pytest.raises(GeneratorError, match=r"\(1, 25\), wanted \(B, 24\)$"):
        family.open_checkpoint(checkpoint).synthesize(torch.zeros(1, 25), torch.tensor([0]))


def small_with_config(tmp_path, text):
    shutil.copy(SMALL / "pytorch_model.bin", tmp_path / "pytorch_model.bin")
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    return tmp_path / "pytorch_model.bin"


def test_without_a_config_the_published_pattern_is_taken(tmp_path, checkpoint):
    found = recognised(small_with_config(tmp_path, None))
    assert (found.config, found.digest()) == (checkpoint.config, checkpoint.digest())


def test_the_config_says_which_blocks_double_the_resolution(tmp_path):
    config = json.loads((SMALL / "config.json").read_text())
    for layer in config["layers"][:2]:
        layer[0] = not layer[0]
    config["layers"][3][0] = False
    generator = family.open_checkpoint(recognised(small_with_config(tmp_path, json.dumps(config))))
    assert generator.image_shape == (32, 32)
    assert generator.synthesize(torch.zeros(1, 24), torch.tensor([3])).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [[False, 16, 16]]}, "8 blocks, but its config has 1"),
        ({"layers": [[False, 16, 16]] * 8}, "layers is"),
        ({"layers": 7}, "'layers' is not a list"),
        ({"layers": [["no", 16, 16]]}, "'layers' is not a list"),
        ({"z_dim": 128}, "z_dim is 128, but the weights have 24"),
        ({"num_classes": 1000}, "num_classes is 1000, but the weights have 10"),
        ({"attention_layer_position": 2}, "attention_layer_position is 2, but the weights have 4"),
        ({"eps": 0}, "eps 0"),
        ({"eps": "small"}, "eps 'small'"),
        (None, "config.json: not JSON: "),
        ({"layers": None}, "'layers' is not a list"),
    ],
)
def test_a_config_of_another_file_is_refused(tmp_path, change, message):
    text = "{" if change is None else json.dumps(json.loads((SMALL / "config.json").read_text()) | change)
    path = small_with_config(tmp_path, text)
    with pytest.raises(WeightsError) as caught:
        recognised(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_foreign_config_is_refused(tmp_path):
    path = small_with_config(tmp_path, '{"architectures": ["BertModel"]}')
    with pytest.raises(WeightsError, match="not the config of a BigGAN-deep"):
        recognised(path)


def test_missing_and_misshapen_tensors_are_named():
    content = read_file(SMALL / "pytorch_model.bin")
    path = SMALL / "pytorch_model.bin"
    for name in ("generator.layers.3.bn_2.running_vars", "generator.layers.4.gamma", "generator.gen_z.bias"):
        with pytest.raises(WeightsError, match=rf"{name} is missing, wanted shape \("):
            family.recognise({k: v for k, v in content.items() if k != name}, path, named=False)
        with pytest.raises(WeightsError, match=rf"{name} is \(2, 2\), wanted shape"):
            family.recognise(content | {name: torch.zeros(2, 2)}, path, named=False)
    without_block = {k: v for k, v in content.items() if not k.startswith("generator.layers.2.")}
    with pytest.raises(WeightsError, match="7 blocks, but its config has 8"):
        family.recognise(without_block, path, named=False)
    with pytest.raises(WeightsError, match="not a generator"):
        narrow = {k: v for k, v in content.items() if not k.startswith(("generator.layers.8.", "generator.layers.7."))}
        family.recognise(narrow, Path("no-config-beside.bin"), named=False)


def test_other_files_are_left_to_other_families():
    for content in ({}, [1], "text", {"generator.gen_z.weight_orig": torch.zeros(1)}, {"G_ema": {}}):
        assert family.recognise(content, Path("file.bin"), named=False) is None


def test_the_weights_of_a_folder_are_found(tmp_path):
    assert family.find(tmp_path) is None
    (tmp_path / "biggan-deep-128-pytorch_model.bin").touch()
    assert family.find(tmp_path).name == "biggan-deep-128-pytorch_model.bin"
    (tmp_path / "biggan-deep-256-pytorch_model.bin").touch()
    with pytest.raises(WeightsError, match="several generators"):
        family.find(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert family.find(tmp_path).name == "pytorch_model.bin"
