"""Every option of StyleGAN2's networks against the equations written out slowly (plain_stylegan2.py)."""

import plain_stylegan2 as plain
import pytest
import torch

from genrep.errors import DataError, GeneratorError, RecipeError, WeightsError
from genrep.generate.generators.base import Checkpoint, checkpoint_from_safetensors, save_checkpoint
from genrep.generate.generators.stylegan2 import family, ops
from genrep.generate.generators.stylegan2.network_config import taps_of


def checkpoint(state, **config):
    return Checkpoint(family="stylegan2", tensors=state, config=config)


def open_state(state, config=None, **options):
    return family.open_checkpoint(checkpoint(state, **(config or {})), **options)


def latents(state, count=3, seed=5, z_dim=7):
    return torch.randn(count, z_dim, generator=torch.Generator().manual_seed(seed))


def assert_close(found, expected, tolerance=2e-5):
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert float((found.double() - expected).abs().max()) <= tolerance * max(scale, 1.0)


def expected_images(state, z, c=None, mapping=None, **synthesis):
    w = plain.plain_mapping(state, z, c, **(mapping or {}))
    layers = 2 * sum(name.endswith("conv1.weight") for name in state)
    return plain.plain_synthesis(state, w[:, None].expand(-1, layers, -1), **synthesis)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_each_architecture_is_recognised_and_computes_its_equations(architecture, clamp):
    state = plain.random_state(architecture=architecture)
    z = latents(state)
    found = open_state(state, {"conv_clamp": clamp} if clamp else None).synthesize(z)
    assert_close(found, expected_images(state, z, clamp=clamp))


@pytest.mark.parametrize(
    "taps",
    [
        (1,),
        (1, 1),
        (1, 2, 1),
        (1, 3, 3, 1),
        (1, 4, 6, 4, 1),
        (1, 2, 3, 4, 5, 7),
        (1, 2, 3),
        (1, 2, 3, 4, 4, 3, 2, 1),
        ((1, 2, 0, 1), (0, 3, 1, 2), (4, 0, 1, 1), (2, 2, 5, 1)),
        ((1, 2, 0), (0, 3, 1), (4, 0, 1)),
    ],
)
@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_filters_of_any_length_separable_or_not_pad_as_the_originals_do(taps, architecture):
    state = plain.random_state(architecture=architecture)
    z = latents(state)
    config = {"resample_taps": [list(row) for row in taps] if isinstance(taps[0], tuple) else list(taps)}
    assert_close(open_state(state, config).synthesize(z), expected_images(state, z, taps=taps))


@pytest.mark.parametrize("activation", sorted(plain.FUNCTIONS))
def test_each_activation_comes_with_its_gain(activation):
    state = plain.random_state()
    z = latents(state)
    found = open_state(state, {"activation": activation, "mapping_activation": activation}).synthesize(z)
    assert_close(found, expected_images(state, z, mapping={"activation": activation}, activation=activation))


@pytest.mark.parametrize(
    "shape",
    [
        {"layers": 1},
        {"layers": 8, "hidden": 9},
        {"layers": 0, "z_dim": 6},
        {"const_channels": 3},
        {"noise": False},
        {"channels": (5,)},
        {"channels": (4, 4, 3, 2)},
    ],
    ids=str,
)
def test_sizes_are_read_off_the_tensors(shape):
    state = plain.random_state(**shape)
    z = latents(state, z_dim=shape.get("z_dim", 7))
    generator = open_state(state)
    assert generator.latent.dim == shape.get("z_dim", 7)
    assert generator.image_shape == (4 << len(shape.get("channels", (1, 1, 1))) - 1,) * 2
    assert_close(generator.synthesize(z), expected_images(state, z))


def test_a_gray_image_is_repeated_to_three_channels_and_other_numbers_are_refused():
    state = plain.random_state(img_channels=1)
    z = latents(state)
    assert_close(open_state(state).synthesize(z), expected_images(state, z).expand(-1, 3, -1, -1))
    with pytest.raises(WeightsError, match="images of 4 channels, wanted 1 or 3"):
        open_state(plain.random_state(img_channels=4))


@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("layers", [0, 2])
def test_classes_enter_after_the_normalisation_or_before_it(concat, layers):
    z_dim = 2 if layers == 0 else 7
    state = plain.random_state(classes=3, concat=concat, layers=layers, z_dim=z_dim)
    z, y = latents(state, z_dim=z_dim), torch.tensor([2, 0, 1])
    generator = open_state(state)
    assert generator.num_classes == 3
    expected = expected_images(state, z, torch.eye(3)[y])
    assert_close(generator.synthesize(z, y), expected)
    assert_close(generator.synthesize(z, torch.eye(3)[y]), expected)
    with pytest.raises(GeneratorError, match="3 classes: synthesize needs y"):
        generator.synthesize(z)


def test_latents_that_are_not_normalised_and_another_learning_rate_are_part_of_the_config():
    state = plain.random_state(lr=0.1)
    z = latents(state)
    config = {"normalize_latents": False, "mapping_lr_multiplier": 0.1}
    expected = expected_images(state, z, mapping={"normalize": False, "lr": 0.1})
    assert_close(open_state(state, config).synthesize(z), expected)


@pytest.mark.parametrize("classes", [0, 3])
def test_instance_features_and_classes_are_normalised_together(classes):
    state = plain.random_state(feature_dim=6, classes=classes)
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([1, 0, 2, 2, 1])
    generator = open_state(state, features={"features": rows, "labels": labels} if classes else rows)
    assert generator.num_classes == 5 and generator.needs_instances
    z, y = latents(state), torch.tensor([4, 0, 2])
    unit = rows / rows.norm(dim=1, keepdim=True)
    expected = plain.plain_mapping(state, z, torch.eye(3)[labels[y]], unit[y])
    assert_close(generator.mapping(z, y), expected)
    with pytest.raises(GeneratorError, match="5 rows of instance features: synthesize needs y"):
        generator.synthesize(z)


def test_features_that_do_not_fit_are_refused_in_one_line():
    state = plain.random_state(feature_dim=6, classes=3)
    with pytest.raises(DataError, match="have 4 dimensions, wanted 6"):
        open_state(state, features=torch.ones(2, 4))
    with pytest.raises(DataError, match="the features need labels"):
        open_state(state, features=torch.ones(2, 6))
    with pytest.raises(DataError, match="label 3, but the generator has 3 classes"):
        open_state(state, features={"features": torch.ones(2, 6), "labels": torch.tensor([0, 3])})
    with pytest.raises(RecipeError, match="not conditioned on instance features"):
        open_state(plain.random_state(), features=torch.ones(2, 6))
    with pytest.raises(GeneratorError, match="give features FILE"):
        open_state(state).synthesize(latents(state), torch.tensor([0, 1, 2]))


def test_truncation_and_cutoff_pull_the_first_layers_towards_the_mean():
    state = plain.random_state()
    z = latents(state)
    w, mean = plain.plain_mapping(state, z), state["mapping.w_avg"].double()
    ws = w[:, None].expand(-1, 6, -1).clone()
    ws[:, :4] = mean + 0.3 * (ws[:, :4] - mean)
    generator = open_state(state, truncation=0.3, truncation_cutoff=4)
    assert_close(generator.synthesize(z), plain.plain_synthesis(state, ws))
    assert_close(generator.synthesize_w(ws.float()), plain.plain_synthesis(state, ws))


def test_noise_is_the_files_own_or_none_or_drawn():
    state = plain.random_state()
    z = latents(state)
    assert_close(open_state(state, noise="none").synthesize(z), expected_images(state, z, noise=False))
    random = open_state(state, noise="random")
    assert float((random.synthesize(z) - random.synthesize(z)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_images_do_not_depend_on_gradients_batches_or_earlier_calls(architecture):
    state = plain.random_state(architecture=architecture, channels=(1, 5, 4))
    generator = open_state(state)
    z = latents(state, count=5).requires_grad_()
    recorded = generator.synthesize(z)
    with torch.no_grad():
        first, kept = generator.synthesize(z), z.clone()
        ws = generator.broadcast(generator.mapping(z)).clone()
        assert torch.equal(generator.synthesize_w(ws), generator.synthesize_w(ws))
        split = torch.cat([generator.synthesize(part) for part in (z[:1], z[1:4], z[4:])])
    scale = float(first.abs().max())
    assert float((recorded - first).detach().abs().max()) <= 1e-5 * scale
    assert float((split - first).abs().max()) <= 1e-5 * scale
    assert torch.equal(kept, z)
    recorded.square().mean().backward()
    step = 1e-2 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # a directional derivative, of a function with kinks
        change = (generator.synthesize(z + step).square().mean() - generator.synthesize(z - step).square().mean()) / 2
    assert float((z.grad * step).sum()) == pytest.approx(float(change), rel=0.1)


def test_nothing_in_a_generator_can_be_trained():
    generator = open_state(plain.random_state(classes=2))
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())
    assert not any(module.training for module in generator.network.modules())


@pytest.mark.parametrize(
    ("layers", "groups"),
    [
        (16, ((0, 4), (4, 8), (8, 12), (12, 16))),
        (18, ((0, 5), (5, 9), (9, 14), (14, 18))),
        (10, ((0, 3), (3, 5), (5, 8), (8, 10))),
        (6, ((0, 2), (2, 3), (3, 5), (5, 6))),
    ],
)
def test_the_layers_come_in_four_groups(layers, groups):
    generator = open_state(plain.random_state(channels=(1,) * (layers // 2)))
    assert generator.num_ws == layers
    assert generator.layer_groups == groups


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": float("nan")}, "truncation nan: wanted a finite number"),
        ({"truncation": "high"}, "truncation 'high': wanted a finite number"),
        ({"truncation_cutoff": 7}, "truncation_cutoff 7: wanted an integer from 0 to 6"),
        ({"truncation_cutoff": -1}, "truncation_cutoff -1: wanted an integer from 0 to 6"),
        ({"truncation_cutoff": 1.5}, "truncation_cutoff 1.5: wanted an integer from 0 to 6"),
        ({"noise": "pink"}, "noise 'pink'; known: const, none, random"),
        ({"conv_clamp": 0.0}, "conv_clamp 0.0: wanted a positive number"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(options, message):
    with pytest.raises(RecipeError) as error:
        open_state(plain.random_state(), **options)
    assert str(error.value) == message


def test_without_a_mean_of_w_only_truncation_1_is_possible():
    state = plain.random_state()
    del state["mapping.w_avg"]
    z = latents(state)
    assert_close(open_state(state).synthesize(z), expected_images(state, z))
    with pytest.raises(RecipeError, match=r"truncation 0\.7: these weights hold no mean of W"):
        open_state(state, truncation=0.7)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation": "mish"}, "activation 'mish'; known: linear, relu"),
        ({"conv_clamp": -1}, "conv_clamp -1; wanted a positive number"),
        ({"mapping_lr_multiplier": "fast"}, "mapping_lr_multiplier 'fast'; wanted a positive number"),
        ({"resample_taps": [1, -1]}, "wanted a filter that does not sum to 0"),
        ({"resample_taps": [[1, 1]]}, "wanted a list or a square matrix"),
        ({"normalize_latents": 1}, "normalize_latents 1; wanted true or false"),
        ({"depth": 3}, "unknown key 'depth'"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_in_one_line(config, message):
    with pytest.raises(WeightsError, match=r"^weights: [^\n]*$") as error:
        open_state(plain.random_state(), config)
    assert message in str(error.value)


def test_a_converted_checkpoint_comes_back_from_safetensors(tmp_path):
    state = plain.random_state(architecture="resnet", classes=2)
    config = {"conv_clamp": 0.5, "resample_taps": [0.25, 0.5, 0.25], "activation": "swish"}
    save_checkpoint(checkpoint(state, **config), tmp_path / "weights.safetensors")
    found = checkpoint_from_safetensors(tmp_path / "weights.safetensors")
    assert found.digest() == checkpoint(state).digest() and found.config == config
    z, y = latents(state), torch.tensor([1, 0, 1])
    expected = expected_images(state, z, torch.eye(2)[y], clamp=0.5, taps=(1, 2, 1), activation="swish")
    assert_close(family.open_checkpoint(found).synthesize(z, y), expected)


@pytest.mark.parametrize(
    ("stored", "taps"),
    [
        (torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])), [1, 3, 3, 1]),
        (torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1])) / 4, [0.25, 0.5, 0.25]),
        (torch.ones(8) / 8, [0.125] * 8),
        (torch.tensor([[1.0, 0], [1, 2]]), [[0.25, 0], [0.25, 0.5]]),
    ],
)
def test_taps_are_read_off_a_stored_filter_whatever_its_scale(stored, taps):
    assert taps_of(stored) == taps


def test_the_kernel_of_an_upsampling_sums_to_one_and_has_an_even_size():
    for taps in ((1.0,), (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0)):
        kernel = ops.up_kernel(taps)
        assert kernel.shape[0] % 2 == 0
        assert float(kernel.sum()) == pytest.approx(1)
