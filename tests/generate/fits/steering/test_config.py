"""Settings and the file of walks: what is refused, and how."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from genrep.errors import WeightsError
from genrep.generate.fits.config import SteerConfig
from genrep.generate.fits.steering import by_name
from genrep.generate.views.walks import load_walks, save_walks

WALKS = torch.arange(8 * 5).float().view(8, 5)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("samples", 0, "samples 0: wanted at least 1"),
        ("batch_size", 0, "batch_size 0: wanted at least 1"),
        ("lr", 0.0, "lr 0.0: wanted a positive number"),
        ("lr", float("nan"), "lr nan: wanted a positive number"),
        ("truncation", -1.0, "truncation -1.0: wanted a positive number"),
        ("seed", -1, r"seed -1: wanted 0 to 2\^63 - 1"),
        ("seed", 2**63, f"seed {2**63}: wanted 0 to 2"),
        ("checkpoint_samples", 0, "checkpoint_samples 0: wanted at least 1"),
        ("measure_images", -1, "measure_images -1: wanted at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_their_name(option, value, message):
    with pytest.raises(ValueError, match="^" + message):
        SteerConfig(**{"gen": "stylegan2_fashion", "out": Path("run"), option: value})


def test_walks_come_back_from_their_file_and_have_the_stated_keys(tmp_path, rows_of):
    from safetensors import safe_open

    path, facts = tmp_path / "walks.safetensors", {"generator": "discgen:plain", "weights": "abc"}
    save_walks(path, by_name(WALKS), facts)
    with safe_open(path, framework="pt") as file:
        assert sorted(file.keys()) == ["color", "rotate_2d", "rotate_3d", "shift_x", "shift_y", "zoom"]
        assert file.metadata() == {
            "format": "pt",
            "genrep": "walks/1",
            "dim": "5",
            "generator": "discgen:plain",
            "weights": "abc",
        }
        assert torch.equal(file.get_tensor("rotate_2d"), WALKS[3])
        assert torch.equal(file.get_tensor("color"), WALKS[5:].T)
    assert torch.equal(rows_of(tmp_path), WALKS)
    first = path.read_bytes()
    save_walks(path, by_name(WALKS), facts)
    assert path.read_bytes() == first


def tensors(**changes):
    single = {name: torch.zeros(5) for name in ("shift_x", "shift_y", "zoom", "rotate_2d", "rotate_3d")}
    return {**single, "color": torch.zeros(5, 3), **changes}


@pytest.mark.parametrize(
    ("content", "metadata", "message"),
    [
        (tensors(), {"genrep": "navigator/1", "dim": "5"}, "genrep = 'navigator/1', wanted 'walks/1'"),
        (tensors(), {"genrep": "walks/1"}, r"has shape \(5,.*\), its metadata say dim = ''"),
        (tensors(), {"genrep": "walks/1", "dim": "6"}, r"has shape \(5,.*\), its metadata say dim = '6'"),
        (
            tensors(zoom=torch.zeros(6)),
            {"genrep": "walks/1", "dim": "5"},
            r"zoom has shape \(6,\), its metadata say dim = '5'",
        ),
        (tensors(tilt=torch.zeros(5)), {"genrep": "walks/1", "dim": "5"}, r"holds \['tilt'\], wanted some of "),
        (tensors(color=torch.zeros(3, 5)), {"genrep": "walks/1", "dim": "5"}, r"color has shape \(3, 5\)"),
        (tensors(zoom=torch.full((5,), torch.nan)), {"genrep": "walks/1", "dim": "5"}, "zoom holds NaN or infinity"),
    ],
)
def test_files_that_hold_no_walks_are_refused(tmp_path, content, metadata, message):
    path = tmp_path / "odd.safetensors"
    save_file(content, path, metadata=metadata)
    with pytest.raises(WeightsError, match=message):
        load_walks(path)


def test_a_missing_or_damaged_file_is_one_line(tmp_path):
    with pytest.raises(WeightsError, match="no such file; a finished run of fit-steer writes"):
        load_walks(tmp_path)
    (tmp_path / "walks.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_walks(tmp_path)
