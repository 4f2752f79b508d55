"""Toy generators, filters for their images, and sources through these."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.generate import BuildConfig
from genrep.generate.fits.config import FilterConfig
from genrep.generate.plans.resolve import make_plan
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.sources.filtered import FilteredSource
from genrep.generate.sources.open import OpenPairs
from genrep.generate.views.filters import FilterSpec
from genrep.generate.weights.load import open_generator

MODULE = '''
from dataclasses import dataclass

import torch

import toygen
from genrep.generate import LatentSpec
from genrep.generate.sources.filtered import FilteredSource
from genrep.generate.sources.open import OpenPairs
from genrep.generate.views.filters import FilterSpec


def hundred():
    return toygen.Toy(num_classes=100)


class Halves:
    """Where the latent begins with a positive number, ramps like the real images; otherwise stripes."""

    latent, num_classes, image_shape = LatentSpec(dim=4), 0, (8, 8)

    def synthesize(self, z, y=None):
        column = torch.linspace(-1, 1, 8).view(1, 1, 1, 8)
        ramp = torch.tanh(z[:, 1:2, None, None]) * column
        stripes = torch.sin(3 * column + z[:, 2:3, None, None])
        return torch.where(z[:, :1, None, None] > 0, ramp, stripes).expand(-1, 3, 8, 8)


def halves():
    return Halves()


class Wide(Halves):
    """Not square."""

    image_shape = (8, 12)

    def synthesize(self, z, y=None):
        return torch.nn.functional.pad(super().synthesize(z, y), (2, 2))


def wide():
    return Wide()


@dataclass(frozen=True, kw_only=True)
class OpenFiltered:
    """Opens a filtered source in any process, as the command does."""

    opener: OpenPairs
    spec: FilterSpec

    def __call__(self):
        source = self.opener()
        return FilteredSource(source, self.spec.open(source.device))
'''


@pytest.fixture
def folder(toy_folder, module_here, monkeypatch):
    """The current folder, holding toygen.py and filtergen.py, which child processes find too."""
    monkeypatch.syspath_prepend(toy_folder)
    return module_here("filtergen", MODULE)


def opener(gen="toygen:plain", **options):
    """Of the unfiltered pairs."""
    settings = {"gen": gen, "num_pairs": 1000, "batch_size": 7, "device": "cpu", **options}
    config = BuildConfig(out=Path("out"), **settings)
    recipe = load_recipe(gen)
    return OpenPairs(config=config, plan=make_plan(config, recipe, open_generator(recipe, None, "cpu")), device="cpu")


@pytest.fixture
def filtered(folder, filter_file):
    """``filtered(gen, keep=..., batch_size=...)``: a source through the filter."""

    def make(gen="toygen:plain", *, keep=0.5, **options):
        source = opener(gen, **options)()
        return FilteredSource(source, FilterSpec(keep=keep, weights=filter_file).open(torch.device("cpu")))

    return make


@pytest.fixture
def real_folder(folder):
    """300 images of 8x8: ramps from left to right."""
    (folder / "real").mkdir()
    for number, slope in enumerate(np.tanh(np.random.default_rng(0).standard_normal(300))):
        levels = (np.linspace(-1, 1, 8) * slope * 127.5 + 128).clip(0, 255).astype(np.uint8)
        image = np.broadcast_to(levels[None, :, None], (8, 8, 3))
        Image.fromarray(np.ascontiguousarray(image)).save(folder / "real" / f"{number:03d}.png")
    return folder / "real"


@pytest.fixture
def config(real_folder):
    """Settings of a tiny run: ``config(name=value)``."""

    def make(**changes):
        settings = {
            "gen": "filtergen:halves",
            "data": str(real_folder),
            "out": real_folder.parent / "run",
            "batch_size": 16,
            "images": 96,
            "checkpoint_images": 32,
            "log_every": 2,
            "device": "cpu",
        }
        return FilterConfig(**{**settings, **changes})

    return make
