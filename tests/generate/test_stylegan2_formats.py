"""StyleGAN2's files against outputs of the original codes (tests/goldens/README.md says how they were made)."""

import json
import re
from pathlib import Path

import plain_stylegan2 as plain
import pytest
import stylegan2_files as files
import torch
from stylegan2_checks import TOLERANCE, W_TOLERANCE, difference, images, latents, read, refused, saved

from genrep.errors import RecipeError
from genrep.generate.generators.stylegan2 import family
from genrep.generate.pixels import to_uint8

GOLDENS = Path(__file__).parent.parent / "goldens"


def golden(name):
    return torch.load(GOLDENS / name, weights_only=True)


CFGF64 = ["network.tf.nosrc.pkl", "ada.nosrc.pkl", "rosinality.pt", "rosinality.legacy.pt", "ada_state_dict.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CFGF64)
def test_each_format_gives_the_images_of_the_original_codes(name):
    checkpoint, tf, ros = (
        read(GOLDENS / "cfgf64" / name),
        golden("cfgf64/golden_tf.pt"),
        golden("cfgf64/golden_ros_part.pt"),
    )
    assert checkpoint.config == {}
    z = tf["z"]
    generator = family.open_checkpoint(checkpoint)
    w = generator.mapping(z)
    assert difference(w, tf["w"][:, 0]) <= W_TOLERANCE
    plain_images = generator.synthesize(z)
    assert difference(plain_images, tf["img_psi1"]) <= TOLERANCE
    assert difference(images(checkpoint, z, truncation=0.5), tf["img_psi0.5_default"]) <= TOLERANCE
    cut = images(checkpoint, z, truncation=0.7, truncation_cutoff=4)
    assert difference(cut, tf["img_psi0.7_cut4"]) <= TOLERANCE
    mixed = torch.cat([generator.broadcast(w)[:, :3], generator.broadcast(w.flip(0))[:, 3:]], dim=1)
    assert difference(generator.synthesize_w(mixed)[:2], ros["style_mix_3"]) <= TOLERANCE
    for found, expected in (
        (to_uint8(plain_images, "127.5x+128"), tf["uint8_psi1"]),
        (to_uint8(images(checkpoint, z[:2], truncation=0.9), "127.5x+127.5", (8, 0, 48, 64)), ros["genrep_uint8_crop"]),
    ):
        levels = (found.int() - expected.int()).abs()
        assert levels.max() <= 1
        assert (levels != 0).float().mean() < 1e-3


def test_the_same_weights_are_the_same_checkpoint_in_every_format():
    checkpoints = [read(GOLDENS / "cfgf64" / name) for name in CFGF64]
    assert len({checkpoint.digest() for checkpoint in checkpoints}) == 1
    assert not any(name.endswith("resample_filter") for name in checkpoints[0].tensors)


@pytest.mark.parametrize("protocol", ["proto4", "proto3.oldnumpy"])
def test_a_conditional_snapshot_clamps_and_is_the_averaged_generator(protocol):
    folder = GOLDENS / "cond32_fp16cfg"
    checkpoint, expected = read(folder / f"network-snapshot.nosrc.{protocol}.pkl"), golden("cond32_fp16cfg/golden.pt")
    assert checkpoint.config == {"conv_clamp": 256.0}
    z, y = expected["z"], expected["c"].argmax(dim=1)
    generator = family.open_checkpoint(checkpoint)
    assert (generator.num_classes, generator.num_ws, generator.image_shape) == (10, 8, (32, 32))
    assert difference(generator.mapping(z, y), expected["w"][:, 0]) <= W_TOLERANCE
    assert difference(generator.synthesize(z, y), expected["img"]) <= TOLERANCE
    assert difference(generator.synthesize_w(expected["wplus"]), expected["img_wplus"]) <= TOLERANCE
    assert difference(images(checkpoint, z, y, noise="none"), expected["img_noise_none"]) <= TOLERANCE
    assert difference(images(checkpoint, z, y, truncation=0.7), expected["img_psi0.7"]) <= TOLERANCE
    cut = images(checkpoint, z, y, truncation=0.5, truncation_cutoff=int(expected["cutoff"]))
    assert difference(cut, expected["img_psi0.5_cut"]) <= TOLERANCE
    levels = to_uint8(generator.synthesize(z, y), "127.5x+128").int() - expected["uint8"].int()
    assert levels.abs().max() <= 1


def test_a_bare_state_dict_takes_its_clamp_from_an_option():
    expected = golden("cond32_fp16cfg/golden.pt")
    checkpoint = read(GOLDENS / "cond32_fp16cfg/state_dict.pt")
    assert checkpoint.digest() == read(GOLDENS / "cond32_fp16cfg/network-snapshot.nosrc.proto4.pkl").digest()
    y = expected["c"].argmax(dim=1)
    assert difference(images(checkpoint, expected["z"], y, conv_clamp=256), expected["img"]) <= TOLERANCE
    clamped = images(checkpoint, expected["z"], y, conv_clamp=0.5)
    assert difference(clamped, expected["img"]) > 0.1


# davidbau's names, and the older files of rosinality's code


def davidbaus(name, seq):
    """A name of rosinality's in davidbau's networks."""
    name = re.sub(r"^conv1\.conv\.", "layer2.conv.mconv.", name)
    name = re.sub(r"^conv1\.", "layer2.conv.", name)
    name = re.sub(r"^convs\.(\d+)\.conv\.", lambda found: f"layer{int(found[1]) + 3}.sconv.mconv.", name)
    name = re.sub(r"^convs\.(\d+)\.", lambda found: f"layer{int(found[1]) + 3}.sconv.", name)
    name = re.sub(r"^to_rgb1\.", "to_rgb1.rgb.", name)
    name = re.sub(r"^to_rgbs\.(\d+)\.upsample\.", lambda found: f"up_rgb{int(found[1]) + 1}.", name)
    name = re.sub(r"^to_rgbs\.(\d+)\.", lambda found: f"to_rgb{int(found[1]) + 2}.rgb.", name)
    if seq:
        name = name.replace("mconv.weight", "mconv.dconv.weight").replace("rgb.conv.weight", "rgb.conv.dconv.weight")
    return name.replace("latent_avg", "latents.latent_avg")


def by_keys(form):
    """The golden weights under davidbau's names, which are those that his networks have."""
    state = golden("cfgf64/rosinality.pt")
    ours = {**state["g_ema"], "latent_avg": state["latent_avg"]}
    renamed = {davidbaus(name, form == "seq"): tensor for name, tensor in ours.items()}
    shapes = json.loads((GOLDENS / f"cfgf64/keys_davidbau_mconv_{form}.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in renamed.items()} == shapes
    return renamed


@pytest.mark.parametrize("name", ["None", "seq"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_both_forms_of_davidbaus_names_are_the_same_weights(tmp_path, name, wrapped):
    state = by_keys(name)
    found = read(saved(tmp_path / "w.pt", {"g_ema": state} if wrapped else state))
    assert found.digest() == read(GOLDENS / "cfgf64/rosinality.pt").digest()


def test_noise_that_an_old_file_lacks_is_drawn_as_davidbau_does(tmp_path):
    state, expected = golden("cfgf64/rosinality.pt"), golden("cfgf64/golden_ros_part.pt")
    state["g_ema"] = {name: value for name, value in state["g_ema"].items() if not name.startswith("noises.")}
    checkpoint = read(saved(tmp_path / "w.pt", state))
    z = golden("cfgf64/golden_tf.pt")["z"][:2]
    assert difference(images(checkpoint, z, truncation=0.9), expected["davidbau_seq_psi0.9_seed1_noise"]) <= TOLERANCE


def test_biases_are_found_where_they_were_before_2019_12_16(tmp_path):
    state = golden("cfgf64/rosinality.pt")
    state["g_ema"] = {
        name.replace(".activate.bias", ".bias"): value.view(1, -1, 1, 1) if name.endswith("activate.bias") else value
        for name, value in state["g_ema"].items()
    }
    found = read(saved(tmp_path / "w.pt", state))
    assert found.digest() == read(GOLDENS / "cfgf64/rosinality.pt").digest()


def test_a_file_without_the_mean_of_w_makes_images_but_no_truncation(tmp_path):
    checkpoint = read(saved(tmp_path / "w.pt", golden("cfgf64/rosinality.pt")["g_ema"]))
    tf = golden("cfgf64/golden_tf.pt")
    assert difference(images(checkpoint, tf["z"]), tf["img_psi1"]) <= TOLERANCE
    with pytest.raises(RecipeError, match=r"truncation 0\.5: these weights hold no mean of W \(latent_avg\)"):
        family.open_checkpoint(checkpoint, truncation=0.5)


def test_a_training_of_rosinality_gives_its_average_and_nothing_else(tmp_path):
    state, other = plain.random_state(), plain.random_state(seed=1)
    for content in (state, other):
        content.pop("mapping.w_avg")
    g_ema, g = files.rosinality_state(state, taps=(1, 2, 1)), files.rosinality_state(other)
    checkpoint = read(
        saved(tmp_path / "w.pt", {"g": g, "d": {}, "g_ema": g_ema, "args": {"size": 16}, "ada_aug_p": 0.1})
    )
    assert checkpoint.config == {"resample_taps": [0.25, 0.5, 0.25]}
    w = plain.plain_mapping(state, latents())[:, None].expand(-1, 6, -1)
    assert difference(images(checkpoint, latents()), plain.plain_synthesis(state, w, taps=(1, 2, 1))) <= TOLERANCE
    assert "without 'g_ema'" in refused({"g": g, "d": {}})
