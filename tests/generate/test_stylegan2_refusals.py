"""Files that hold no StyleGAN2, a damaged one, or one whose authors' classes must not run; and folders of files."""

import pickle
from pathlib import Path

import numpy as np
import plain_stylegan2 as plain
import pytest
import stylegan2_files as files
import torch
from safetensors.torch import save_file
from stylegan2_checks import read, refused, saved

from genrep.generate.generators.base import read_safetensors
from genrep.generate.generators.stylegan2 import family
from genrep.unpickle import read_file

# What is no StyleGAN2, and what is damaged


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["mapping.w_avg", "synthesis.input.freqs", "synthesis.L0_36_512.weight"],
            "this is a StyleGAN3 pickle: not supported",
        ),
        (["mapping.embed_proj.weight", "synthesis.L0_36_512.weight"], "this is a StyleGAN-XL pickle: not supported"),
    ],
)
def test_relatives_are_named_and_refused_by_their_tensors(tmp_path, names, message):
    state = {name: torch.ones(2) for name in names}
    path = files.write_ada(tmp_path / "w.pkl", {"G": state, "D": None, "G_ema": state})
    assert refused(read_file(path)) == message
    assert refused(state) == message.replace("pickle", "state dict")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"G": 1},
        {"blocks.0.0.conv1.weight": torch.ones(1)},
        {"state_dict": {"x": torch.ones(2)}},
        (1, 2, 3),
    ],
    ids=repr,
)
def test_other_content_is_left_to_the_other_families(content):
    assert family.recognise(content, Path("w.pt"), named=True) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("synthesis.b8.conv0.bias"), "without synthesis.b8.conv0.bias"),
        (lambda state: state.pop("synthesis.b4.const"), "without synthesis.b4.const"),
        (lambda state: state.pop("mapping.fc0.weight"), "without mapping.fc0.weight"),
        (lambda state: state.pop("synthesis.b8.conv1.weight"), "resolution [4, 16], wanted 4, 8, 16"),
        (lambda state: state.update({"synthesis.extra": torch.ones(1)}), "unexpected tensor synthesis.extra"),
        (lambda state: state.update({"mapping.w_avg": torch.ones(9)}), "mapping.w_avg of shape (9,), wanted (6,)"),
        (lambda state: state.update({"synthesis.b4.const": torch.ones(2)}), "wanted 3 dimensions"),
        (
            lambda state: state.update({"mapping.fc1.bias": torch.full((6,), np.nan)}),
            "mapping.fc1.bias is not a tensor of finite",
        ),
        (
            lambda state: state.update({"mapping.fc1.bias": torch.ones(6).long()}),
            "mapping.fc1.bias is not a tensor of finite",
        ),
        (lambda state: state.update({"synthesis.b4.conv1.weight": torch.ones(0, 6, 3, 3)}), "wanted numbers"),
        (lambda state: state.update({"synthesis.b4.resample_filter": torch.zeros(4, 4)}), "filter that sums to 0"),
        (lambda state: state.update({"synthesis.b4.resample_filter": torch.ones(2, 4)}), "filter of shape (2, 4)"),
    ],
)
def test_damaged_weights_end_in_one_line_that_names_the_tensor(change, message):
    state = plain.random_state()
    change(state)
    assert message in refused(state, "w.pt")


def test_rosinalitys_names_are_checked_as_well():
    state = files.rosinality_state(plain.random_state())
    assert "unexpected tensor convs.0.extra" in refused({**state, "convs.0.extra": torch.ones(1)})
    assert "conv1.noise.weight has the unexpected shape (2,)" in refused({**state, "conv1.noise.weight": torch.ones(2)})
    assert "without mapping.fc0.bias" in refused({k: v for k, v in state.items() if k != "style.1.bias"})


def test_safetensors_without_our_metadata_are_recognised_by_their_names(tmp_path):
    state = plain.random_state()
    save_file(state, tmp_path / "w.safetensors")
    tensors, _ = read_safetensors(tmp_path / "w.safetensors")
    assert set(family.recognise(tensors, tmp_path, named=False).tensors) == set(state)


def test_half_precision_weights_become_single(tmp_path):
    state = {name: tensor.half() for name, tensor in plain.random_state().items()}
    found = read(saved(tmp_path / "w.pt", {"state_dict": state}))
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}


def test_the_last_snapshot_of_a_folder_is_found(tmp_path):
    assert family.find(tmp_path) is None
    for name in (
        "network-snapshot-000200.pkl",
        "network-snapshot-001000.pkl",
        "network-snapshot-000400.pkl",
        "log.txt",
    ):
        (tmp_path / name).touch()
    assert family.find(tmp_path).name == "network-snapshot-001000.pkl"
    (tmp_path / "best-network-snapshot.pkl").touch()
    assert family.find(tmp_path).name == "best-network-snapshot.pkl"


def test_nothing_that_a_snapshot_names_is_run(tmp_path):
    marker = tmp_path / "ran"

    class Gadget:
        def __reduce__(self):
            return Path.touch, (marker,)

    content = {"G": Gadget(), "D": Gadget(), "G_ema": Gadget()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    assert family.recognise(read_file(tmp_path / "w.pkl"), tmp_path / "w.pkl", named=False) is None
    assert not marker.exists()
