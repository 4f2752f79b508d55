"""``export``: a file that the other library reads, or one line and no file."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from genrep.cli import invoke
from genrep.encoders import load_encoder
from genrep.evaluate.commands import export_command as command


def test_a_run_becomes_torchvisions_file(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r18.pth"
    assert invoke(command, ["--encoder", str(encoder), "--format", "torchvision", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"resnet18 for torchvision: {out}\n"
    model = torchvision.models.resnet18()
    model.fc = nn.Identity()
    model.load_state_dict(torch.load(out, weights_only=True), strict=True)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), load_encoder(encoder).module(images))


def test_a_strangers_checkpoint_becomes_detectron2s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The released converter wrote an empty model for a checkpoint of one GPU."""
    model = torchvision.models.resnet18()
    state = {f"encoder.{name.replace('downsample', 'shortcut')}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": state}, tmp_path / "last.pth")
    out = tmp_path / "r18.pkl"
    assert invoke(command, ["--encoder", str(tmp_path / "last.pth"), "--format", "detectron2", "--out", str(out)]) == 0
    assert "left out: model.encoder.fc (2 tensors)" in capsys.readouterr().err
    content = pickle.loads(out.read_bytes())
    assert len(content["model"]) == len(model.state_dict()) - 2
    assert (content["model"]["res3.0.shortcut.weight"] == model.layer2[0].downsample[0].weight.detach().numpy()).all()


def test_anyones_module_is_exported_if_it_is_a_resnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "import torch, torchvision\n"
        "class Own(torch.nn.Module):\n"
        "    size = 32\n"
        "    def __init__(self, cut):\n"
        "        super().__init__()\n"
        "        self.body = torchvision.models.resnet18()\n"
        "        self.body.fc = torch.nn.Identity()\n"
        "        if cut: self.body.layer4[1] = torch.nn.Identity()\n"
        "    def forward(self, x): return self.body(x)\n"
        "def whole(): return Own(False)\n"
        "def cut(): return Own(True)\n"
    )
    (tmp_path / "own_exports.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert invoke(command, ["--encoder", "own_exports:whole", "--format", "timm", "--out", "a.safetensors"]) == 0
    assert invoke(command, ["--encoder", "own_exports:cut", "--format", "timm", "--out", "b.safetensors"]) == 1
    sys.modules.pop("own_exports")
    assert "do not fit resnet18: layer4.1.bn1.bias is missing" in capsys.readouterr().err
    assert (tmp_path / "a.safetensors").exists() and not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--format", "timm", "--out", "a.pkl"], 2, "ends in .safetensors or .pth or .pt"),
        (["--format", "detectron2", "--out", "a.pth"], 2, "ends in .pkl"),
        (["--format", "torchvision", "--out", "there.pth"], 1, "there.pth: exists; wanted a new file"),
    ],
)
def test_faults_are_one_line(
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pth").write_text("precious")
    assert invoke(command, ["--encoder", str(encoder), *args]) == status
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert (tmp_path / "there.pth").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["there.pth"]
