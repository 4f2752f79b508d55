"""``import-walk``: from a released file to one that --views reads, or one line and an exit status."""

import pytest
import torch

from genrep.cli import invoke
from genrep.generate.commands.recipes import import_walk_command
from genrep.generate.views import parse_view


@pytest.fixture
def released(tmp_path, monkeypatch):
    """The current folder, holding a navigator's state and GenRep's walks as torch files."""
    monkeypatch.chdir(tmp_path)
    network = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.ReLU(), torch.nn.Linear(6, 6))
    torch.save({"walker": network.state_dict()}, "navigator.pth")
    torch.save({"walk_zoom": torch.ones(1, 8), "walk_shiftx": torch.ones(1, 8)}, "walks.pth")
    return tmp_path


def run(capsys, *options):
    return invoke(import_walk_command, list(options)), *capsys.readouterr()


def test_a_navigator_is_written_for_its_chunks_and_its_view_is_named(released, capsys):
    status, out, err = run(capsys, "navigator.pth", "--out", "new/nav.safetensors", "--chunks", "1-2")
    assert (status, err) == (0, "")
    assert "navigator of 6 components" in out and "--views navigator:weights=new/nav.safetensors" in out
    record = parse_view("navigator:weights=new/nav.safetensors").to_json()
    assert (record["dim"], record["chunks"], record["layers"]) == (6, "1-2", "")


def test_a_navigator_is_written_for_its_layers(released, capsys):
    status, _, _ = run(capsys, "navigator.pth", "--out", "nav.safetensors", "--layers", "3")
    assert status == 0
    assert parse_view("navigator:weights=nav.safetensors").to_json()["layers"] == "3"


def test_walks_are_named(released, capsys):
    status, out, _ = run(capsys, "walks.pth", "--out", "walks.safetensors")
    assert status == 0 and "of 8 components" in out and "--views steered:walks=walks.safetensors" in out
    assert "zoom" in out and "shift_x" in out
    assert parse_view("steered:walks=walks.safetensors").to_json()["only"] == "zoom+shift_x"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["navigator.pth", "--out", "nav.pth"], 2, "--out nav.pth: wanted a name that ends in .safetensors"),
        (["navigator.pth"], 2, "Missing option '--out'"),
        (["x.safetensors", "--out", "./x.safetensors"], 2, "is the input file"),
        (
            ["navigator.pth", "--out", "x.safetensors", "--chunks", "5-1"],
            2,
            "--chunks '5-1': wanted a number or a range",
        ),
        (["navigator.pth", "--out", "x.safetensors", "--layers", "a"], 2, "--layers 'a': wanted a number or a range"),
        (["navigator.pth", "--out", "x.safetensors", "--layers", "1", "--chunks", "1"], 2, "give one of the two"),
        (
            ["gone.pth", "--out", "x.safetensors"],
            1,
            "weights gone.pth: missing; a pickle or a checkpoint of torch is wanted",
        ),
        ([".", "--out", "x.safetensors"], 1, "weights .: a folder or device, wanted a regular file"),
        (["text.pth", "--out", "x.safetensors"], 1, "text.pth"),
        (["other.pth", "--out", "x.safetensors"], 1, "neither walks nor linear layers"),
        (["navigator.pth", "--out", "text.pth/x.safetensors"], 1, "text.pth"),
    ],
)
def test_faults_end_in_one_line_and_leave_no_file(released, capsys, options, status, message):
    (released / "text.pth").write_text("not a pickle")
    torch.save({}, "other.pth")
    found, out, err = run(capsys, *options)
    assert (found, out) == (status, "")
    assert message in err and err.count("\n") == 1
    assert not (released / "x.safetensors").exists()
