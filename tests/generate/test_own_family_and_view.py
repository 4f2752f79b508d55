"""A family of generators is one module and one line in a dict, a view one class and one line: the smallest of each."""

import json
import sys
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from genrep.errors import RecipeError
from genrep.generate import BuildConfig, LatentSpec, build_dataset, load_generator
from genrep.generate.generators import families
from genrep.generate.views import Draw, View, grammar, parse_view, view_from_json

FAMILY = '''
"""Stripes: images of one tensor."""

import torch

from genrep.errors import RecipeError
from genrep.generate import LatentSpec
from genrep.generate.generators.base import Checkpoint
from genrep.generate.generators.found_network import find_network

OPTIONS = frozenset({"width"})


def find(folder):
    return next(iter(sorted(folder.glob("*.stripes.pt"))), None)


def recognise(content, path, *, named, network=None):
    found = find_network(content, ("stripes.weight",), f"weights {path}", network=network)
    return found and Checkpoint(family="stripes", tensors=found.tensors, notes=found.notes(found.tensors))


class Stripes:
    num_classes = 0
    image_shape = (16, 16)

    def __init__(self, weight, width):
        self.weight, self.width = weight, width
        self.latent = LatentSpec(dim=len(weight))

    def synthesize(self, z, y=None):
        phase = torch.arange(16.0, device=z.device) / self.width
        rows = torch.sin((z @ self.weight)[:, :, None] + phase)
        return rows[:, :, None].expand(-1, -1, 16, -1)


def open_checkpoint(checkpoint, *, device="cpu", width=2):
    if not isinstance(width, int) or width < 1:
        raise RecipeError(f"width {width!r}: wanted a whole number from 1")
    return Stripes(checkpoint.tensors["stripes.weight"].to(device), width)
'''
RECIPE = """
[generator]
family = "stripes"
weights = "net.stripes.pt"
width = 3
"""


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    """A recipe of the new family, with its weights beside it."""
    (tmp_path / "stripes_family.py").write_text(textwrap.dedent(FAMILY))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(families.FAMILIES, "stripes", "stripes_family")
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.save({"ema": {"module.stripes.weight": weight}, "steps": 7}, tmp_path / "net.stripes.pt")
    (tmp_path / "stripes.toml").write_text(RECIPE)
    yield tmp_path / "stripes.toml"
    sys.modules.pop("stripes_family", None)


def test_a_family_of_ones_own_becomes_a_dataset(stripes, tmp_path):
    build_dataset(BuildConfig(out=tmp_path / "out", gen=str(stripes), num_pairs=5, device="cpu", processes=1))
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]
    assert (recipe["num_pairs"], recipe["generator"]["family"]) == (5, "stripes")
    assert recipe["generator"]["options"] == {"width": 3}
    assert load_generator(weights=tmp_path / "net.stripes.pt").width == 2  # recognised, with the family's default
    assert load_generator(weights=tmp_path, width=4).width == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("width = 0", "width 0: wanted a whole number from 1"),
        ("width = [1]", r"\[generator\] width = .*; wanted a text, a number, true or false"),
        ("height = 3", r"\[generator\] has unknown key 'height'; known: .*width"),
    ],
)
def test_options_of_a_family_are_its_own(stripes, line, message):
    stripes.write_text(RECIPE.replace("width = 3", line))
    with pytest.raises(RecipeError, match=message):
        load_generator(str(stripes))


def test_an_option_of_another_family_is_none_of_this_one(stripes):
    stripes.write_text(RECIPE.replace("stripes", "stylegan2"))
    with pytest.raises(RecipeError, match=r"\[generator\] has unknown key 'width'"):
        load_generator(str(stripes))


@dataclass(frozen=True, kw_only=True)
class MirroredView(View):
    """``z' = -strength z``."""

    name = "mirrored"
    strength: float = 1.0

    def transform(self, z, latent, draw):
        """See ``View.transform``."""
        return (-self.strength * z).astype(np.float32)


def test_a_view_of_ones_own_is_written_like_the_others(monkeypatch, stripes, tmp_path):
    monkeypatch.setitem(grammar.VIEWS, "mirrored", MirroredView)
    view = parse_view("mirrored:strength=.5")
    assert view == MirroredView(strength=0.5) == view_from_json(json.loads(json.dumps(view.to_json())))
    z = LatentSpec(dim=4).sample(0, np.arange(3))
    assert np.array_equal(view.transform(z, LatentSpec(dim=4), Draw(seed=0, indices=np.arange(3))), -0.5 * z)
    mixed = parse_view("mix:mirrored=1,independent=1")
    assert mixed.parts[0].view == MirroredView()
    build_dataset(
        BuildConfig(
            out=tmp_path / "out", gen=str(stripes), views="mirrored:strength=.5", num_pairs=3, device="cpu", processes=1
        )
    )
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]
    assert recipe["views"] == {"name": "mirrored", "strength": 0.5}
