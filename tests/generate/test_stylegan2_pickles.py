"""Pickles of StyleGAN2 of which there is no golden: written here, compared with the equations (plain_stylegan2.py)."""

import numpy as np
import plain_stylegan2 as plain
import pytest
import stylegan2_files as files
import torch
from stylegan2_checks import TOLERANCE, W_TOLERANCE, difference, images, latents, read, refused

from genrep.errors import WeightsError
from genrep.generate import load_generator
from genrep.generate.generators.stylegan2 import family
from genrep.unpickle import read_file

# Pickles of ADA in PyTorch


def attributes(**values):
    """What the original's modules carry besides their tensors."""

    def of(name):
        if name.startswith("mapping.fc"):
            chosen = {"activation": values.get("mapping_activation", "lrelu"), "bias_gain": values.get("lr", 0.01)}
            return chosen
        if name.endswith(("conv0", "conv1")):
            return {"activation": values.get("activation", "lrelu"), "conv_clamp": values.get("conv_clamp")}
        return {"conv_clamp": values.get("conv_clamp")} if name.endswith("torgb") else {}

    return of


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 1, 2, 3, 3, 2, 1, 1)])
def test_a_snapshot_tells_all_that_its_tensors_do_not(tmp_path, architecture, taps):
    state = plain.random_state(architecture=architecture, lr=0.1, classes=3)
    options = attributes(activation="swish", mapping_activation="relu", conv_clamp=0.7, lr=0.1)
    states = {"G": plain.random_state(seed=9), "D": None, "G_ema": state}
    checkpoint = read(files.write_ada(tmp_path / "w.pkl", states, taps=taps, attributes=options))
    y = torch.tensor([2, 0])
    w = plain.plain_mapping(state, latents(), torch.eye(3)[y], lr=0.1, activation="relu")
    expected = plain.plain_synthesis(state, w[:, None].expand(-1, 6, -1), taps=taps, activation="swish", clamp=0.7)
    assert difference(images(checkpoint, latents(), y), expected) <= TOLERANCE


def test_numbers_of_numpy_are_read_like_pythons(tmp_path):
    state = plain.random_state()
    options = attributes(conv_clamp=np.float64(0.7), lr=np.float32(0.01))
    checkpoint = read(files.write_ada(tmp_path / "w.pkl", {"G_ema": state}, attributes=options, protocol=2))
    assert checkpoint.config == {"conv_clamp": 0.7, "mapping_lr_multiplier": pytest.approx(0.01)}


def test_a_generator_alone_in_a_pickle_is_read(tmp_path):
    state = plain.random_state()
    path = files.write_ada(tmp_path / "w.pkl", {"G_ema": state}, wrap=False)
    assert set(read(path).tensors) == set(state)


def test_a_snapshot_of_ic_gan_takes_instance_features(tmp_path):
    state = plain.random_state(feature_dim=5, classes=2)
    checkpoint = read(files.write_ada(tmp_path / "w.pkl", {"G_ema": state}))
    rows = torch.nn.functional.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(1)))
    labels, y = torch.tensor([1, 0, 1, 1]), torch.tensor([3, 1])
    w = plain.plain_mapping(state, latents(), torch.eye(2)[labels[y]], rows[y])
    expected = plain.plain_synthesis(state, w[:, None].expand(-1, 6, -1))
    assert (
        difference(images(checkpoint, latents(), y, features={"features": rows, "labels": labels}), expected)
        <= TOLERANCE
    )


@pytest.mark.parametrize("recipe", ["icgan", "icgan_stylegan2"])
def test_the_recipes_of_ic_gan_take_a_stylegan2_backbone_but_no_plain_stylegan2(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    path = files.write_ada(tmp_path / "w.pkl", {"G_ema": plain.random_state(feature_dim=5)})
    for _ in range(2):  # converted, then from the cache
        generator = load_generator(recipe, weights=path, features=torch.eye(5)[:4])
        assert (generator.num_classes, generator.instances.labels) == (4, None)
    with pytest.raises(WeightsError, match="this is a stylegan2 file, wanted icgan"):
        load_generator(recipe, weights=files.write_ada(tmp_path / "plain.pkl", {"G_ema": plain.random_state()}))


def test_a_snapshot_whose_average_is_missing_is_refused(tmp_path):
    for states in ({"G": plain.random_state()}, {"G": plain.random_state(), "G_ema": None}):
        path = files.write_ada(tmp_path / "w.pkl", states)
        assert "without 'G_ema'" in refused(read_file(path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight_gain": 0.5}, "weight_gain is 0.5, wanted"),
        ({"weight_gain": None}, "weight_gain is not a number"),
        ({"activation": ["lrelu"]}, "activation is a list, wanted a number or a name"),
        ({"activation": "mish"}, "activation 'mish'; known"),
        ({"bias_gain": float("inf")}, "bias_gain is a float, wanted a number or a name"),
    ],
)
def test_attributes_that_our_networks_cannot_follow_are_refused(tmp_path, changed, message):
    def of(name):
        return changed if name.startswith("mapping.fc") else {}

    path = files.write_ada(tmp_path / "w.pkl", {"G_ema": plain.random_state()}, attributes=of)
    assert message in refused(read_file(path))


def test_clamps_and_filters_that_differ_between_layers_are_refused(tmp_path):
    path = files.write_ada(
        tmp_path / "w.pkl",
        {"G_ema": plain.random_state()},
        attributes=lambda name: {"conv_clamp": 256 if "b8" in name else None} if name.endswith("conv1") else {},
    )
    assert "conv_clamp differs from layer to layer (None, and 256 in synthesis.b8.conv1)" in refused(read_file(path))
    state = plain.random_state()
    state["synthesis.b4.resample_filter"], state["synthesis.b8.resample_filter"] = torch.ones(2, 2), torch.ones(4, 4)
    assert "resampling filters that differ from layer to layer" in refused(state)


def test_a_module_that_contains_itself_is_followed_once(tmp_path):
    from genrep.unpickle.records import Opaque

    fields = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    knot = Opaque("a.B", state=fields)
    fields["_modules"] = {"left": knot, "right": knot}
    assert family.recognise({"G_ema": knot}, tmp_path / "w.pkl", named=False) is None


# Pickles of TensorFlow


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize(("version", "protocol"), [(4, 3), (5, 4)])
def test_tensorflows_architectures_are_read(tmp_path, architecture, version, protocol):
    state = plain.random_state(architecture=architecture)
    checkpoint = read(files.write_tf(tmp_path / "w.pkl", state, version=version, protocol=protocol, resolution=16))
    w = plain.plain_mapping(state, latents())
    expected = plain.plain_synthesis(state, w[:, None].expand(-1, 6, -1))
    assert difference(images(checkpoint, latents()), expected) <= TOLERANCE
    for name, tensor in state.items():
        assert difference(checkpoint.tensors[name], tensor) <= 1e-6


@pytest.mark.parametrize("concat", [False, True])
def test_tensorflows_labels_are_embedded_or_joined_to_z(tmp_path, concat):
    state = plain.random_state(classes=3, concat=concat)
    checkpoint = read(files.write_tf(tmp_path / "w.pkl", state, label_size=3))
    y = torch.tensor([1, 2])
    w = plain.plain_mapping(state, latents(), torch.eye(3)[y])
    generator = family.open_checkpoint(checkpoint)
    assert generator.num_classes == 3
    assert difference(generator.mapping(latents(), y), w) <= W_TOLERANCE


def test_tensorflows_arguments_that_change_the_function_are_read_and_the_others_ignored(tmp_path):
    state = plain.random_state(lr=0.1)
    path = files.write_tf(
        tmp_path / "w.pkl",
        state,
        resample_kernel=[1, 2, 1],
        conv_clamp=np.float32(0.75),
        nonlinearity="relu",
        mapping_nonlinearity="tanh",
        mapping_lrmul=0.1,
        normalize_latents=False,
        fused_modconv=True,
        truncation_psi=0.3,
        dlatent_avg_beta=0.99,
        conditioning="none",
    )
    checkpoint = read(path)
    w = plain.plain_mapping(state, latents(), lr=0.1, activation="tanh", normalize=False)
    expected = plain.plain_synthesis(state, w[:, None].expand(-1, 6, -1), taps=(1, 2, 1), activation="relu", clamp=0.75)
    assert difference(images(checkpoint, latents()), expected) <= TOLERANCE


def test_tensorflows_filter_none_is_a_box(tmp_path):
    checkpoint = read(files.write_tf(tmp_path / "w.pkl", plain.random_state(), resample_kernel=None))
    assert checkpoint.config == {"resample_taps": [0.5, 0.5]}


def test_a_network_that_has_finished_growing_uses_its_last_torgb(tmp_path):
    state = plain.random_state(architecture="skip")
    checkpoint = read(files.write_tf(tmp_path / "w.pkl", state, growing=True, synthesis_extra=[("lod", np.float32(0))]))
    kept = {name: value for name, value in state.items() if "torgb" not in name or "b16." in name}
    w = plain.plain_mapping(kept, latents())
    expected = plain.plain_synthesis(kept, w[:, None].expand(-1, 6, -1))
    assert difference(images(checkpoint, latents()), expected) <= TOLERANCE
    half = files.write_tf(tmp_path / "w.pkl", state, growing=True, lod=1.5)
    assert "still growing (level of detail 1.5)" in refused(read_file(half))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("4x4/Const/StyleMod/weight", np.zeros(3, np.float32))], "this is a StyleGAN1 pickle"),
        ([("8x8/Attention/weight", np.zeros(3, np.float32))], "unexpected variable synthesis/8x8/Attention/weight"),
        ([("noise1", np.zeros(3, np.float32))], "synthesis/noise1 has the unexpected shape (3,)"),
        (
            [("4x4/Conv/weight", np.zeros((3, 3, 2, 2), np.float32))],
            "synthesis.b4.conv1.weight of shape (2, 2, 3, 3), wanted (2, 6, 3, 3)",
        ),
        ([("noise1", "text")], "its variable synthesis/noise1 is not an array of numbers"),
        ([("noise1",)], "its variables are not pairs"),
    ],
)
def test_variables_that_do_not_belong_are_named(tmp_path, extra, message):
    found = refused(read_file(files.write_tf(tmp_path / "w.pkl", plain.random_state(), synthesis_extra=extra)))
    assert message in found
