"""Anyone's own encoder by ``module:factory``, and encoders that no file holds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from genrep.encoders import build_encoder, load_encoder, random_encoder
from genrep.errors import WeightsError

MODULE = """
import torch
from torch import nn

class Mean(nn.Module):
    size, mean, std = 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
    def forward(self, x):
        return self.scale * x.mean(dim=(2, 3))

class Bare(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :5]

class Maps(nn.Module):
    def forward(self, x):
        return x

class Nothing(nn.Module):
    def forward(self, x):
        return x.flatten(1) / 0

class Wants64(nn.Module):
    def forward(self, x):
        return x.view(-1, 3 * 64 * 64)

def told():
    return Bare(), {"size": 16, "mean": [0, 0, 0], "std": torch.ones(3)}

def tells_nonsense():
    return Bare(), {"sizes": 16}

def tells_text():
    return Bare(), {"mean": "gray"}

def raises():
    raise RuntimeError("no weights here")

def text():
    return "encoder"

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with someone's module in it."""
    (tmp_path / "own_encoders.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_encoders", None)


def test_a_module_tells_its_facts_by_attributes(here: Path) -> None:
    loaded = load_encoder("own_encoders:Mean")
    facts = loaded.facts
    assert (facts.arch, facts.stem, facts.size) == ("own_encoders:Mean", "own", 8)
    assert (facts.mean, facts.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # images in [-1, 1], not ImageNet's
    assert loaded.notes == ()
    assert not loaded.module.training
    assert torch.equal(loaded.module(torch.ones(4, 3, 8, 8)), torch.full((4, 3), 2.0))
    assert loaded.sha256 == load_encoder("own_encoders:Mean").sha256 != load_encoder("own_encoders:Bare").sha256


def test_a_factory_tells_them_by_a_dictionary_and_the_caller_knows_better(here: Path) -> None:
    facts = load_encoder(Path("own_encoders:told"), mean=(0.1, 0.1, 0.1)).facts
    assert (facts.size, facts.mean, facts.std) == (16, (0.1, 0.1, 0.1), (1.0, 1.0, 1.0))


def test_what_a_factory_does_not_tell_is_assumed_and_said(here: Path) -> None:
    loaded = load_encoder("own_encoders:Bare", size=32)
    assert loaded.facts.mean == (0.485, 0.456, 0.406)
    assert loaded.notes == ("mean, std: not given by the factory; assuming 32 pixels and ImageNet's",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Mean", r"cannot import it \(No module named 'nowhere'\); wanted nowhere\.py in this folder"),
        ("own_encoders:nothing_here", "cannot import it"),
        ("own_encoders:number", "number is not callable"),
        ("own_encoders:text", "returned a str; wanted a torch.nn.Module"),
        ("own_encoders:raises", "the factory raised RuntimeError: no weights here"),
        ("own_encoders:tells_nonsense", "its dictionary holds sizes; wanted size, mean, std"),
        ("own_encoders:tells_text", "its mean is 'gray'; wanted three numbers"),
        ("own_encoders:Maps", r"gave \(2, 3, 224, 224\); wanted features \(2, D\)"),
        ("own_encoders:Nothing", "not finite"),
        ("own_encoders:Wants64", "raised RuntimeError.* at images"),
    ],
)
def test_what_is_no_encoder_is_refused(here: Path, name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=f"^encoder {name}: .*{message}"):
        load_encoder(name)


def test_a_module_that_raises_while_it_is_imported_is_refused(here: Path) -> None:
    (here / "broken_encoders.py").write_text("1 / 0")
    with pytest.raises(WeightsError, match="importing it raised ZeroDivisionError"):
        load_encoder("broken_encoders:x")


def test_random_encoders_are_their_seeds() -> None:
    one, same, other = (random_encoder("resnet18", "cifar", seed) for seed in (1, 1, 2))
    assert one.sha256 == same.sha256 != other.sha256
    assert not one.trained
    assert (one.facts.arch, one.facts.stem, str(one.path)) == ("resnet18", "cifar", "random-init")
    assert torch.equal(one.module.conv1.weight, build_encoder("resnet18", "cifar", 1).conv1.weight)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "last"), [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_zero_init_makes_every_block_begin_as_its_shortcut(arch: str, last: str) -> None:
    plain, zero = (build_encoder(arch, "imagenet", 0, zero_init_residual=flag) for flag in (False, True))
    changed = {
        name
        for (name, one), other in zip(plain.named_parameters(), zero.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    blocks = [name for name, module in zero.named_modules() if name.count(".") == 1 and isinstance(module, nn.Module)]
    assert changed == {f"{block}.{last}.weight" for block in blocks}
    block = zero.get_submodule("layer1.1").eval()
    x = torch.rand(1, 64 if arch == "resnet18" else 256, 4, 4)
    assert torch.equal(block(x), x)
