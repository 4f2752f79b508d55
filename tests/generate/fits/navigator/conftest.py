"""Generators small enough to play the game on, and a module of them."""

import numpy as np
import pytest
import torch

from genrep.encoders import Projector
from genrep.generate.fits import navigator as trainer
from genrep.generate.fits import navigator_measure as compare
from genrep.generate.fits.config import NavigatorConfig
from genrep.generate.fits.frozen import FrozenGenerator, open_frozen
from genrep.generate.generators.base import LatentSpec
from genrep.generate.generators.stylegan2.generator import StyleGAN2Generator
from genrep.generate.generators.stylegan2.networks import StyleGAN2Config, StyleGAN2Network
from genrep.generate.recipes.recipe import Recipe
from genrep.generate.views import view_from_json

MODULE = '''
import torch
from genrep.generate import LatentSpec


class Waves:
    """Eight-pixel images, smooth in the latent, whose chunks set colour, frequency and phase."""

    def __init__(self, num_classes=0):
        self.latent = LatentSpec(dim=6, chunks=(3, 2, 1), law="truncated_normal", truncation=2.0)
        self.num_classes = num_classes
        self.image_shape = (8, 8)
        self.gain = torch.nn.Parameter(torch.ones(1))  # not frozen, as a user may leave it

    def synthesize(self, z, y=None):
        y_axis, x_axis = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
        wave = torch.sin(z[:, 3, None, None] * x_axis + z[:, 4, None, None] * y_axis + z[:, 5, None, None])
        image = torch.tanh(self.gain * (z[:, :3, None, None] + wave[:, None]))
        return image if y is None else image * (1 + y.view(-1, 1, 1, 1)) / self.num_classes


class Blind(Waves):
    def synthesize(self, z, y=None):
        return super().synthesize(z.detach(), y).detach()


def plain():
    return Waves()


def conditional():
    return Waves(num_classes=3)


def blind():
    return Blind()


def whole():
    generator = Waves()
    generator.latent = LatentSpec(dim=6)
    return generator


class Spatial(Waves):
    """The same, with latents of two rows of three, as noise of a diffusion model has rows and columns."""

    def __init__(self):
        super().__init__()
        self.latent = LatentSpec(shape=(2, 3))

    def synthesize(self, z, y=None):
        return super().synthesize(z.flatten(1), y)


def spatial():
    return Spatial()


def prompted():
    generator = Waves()
    generator.takes_prompts = True
    generator.synthesize = lambda z, y=None: Waves().synthesize(z)
    return generator


def noisy():
    generator = Spatial()
    generator.draws_noise = True
    generator.synthesize = lambda z, y=None, noise=None: Waves().synthesize(z.flatten(1))
    return generator
'''


@pytest.fixture
def waves_folder(module_here):
    """The current folder, holding wavegen.py."""
    return module_here("wavegen", MODULE)


@pytest.fixture
def waves(waves_folder):
    """Source of the plain waves."""
    return open_frozen("wavegen:plain", None, torch.device("cpu"))


@pytest.fixture
def config(waves_folder):
    """Settings of a tiny run: ``config(name=value)``."""

    def make(**changes):
        settings = {
            "gen": "wavegen:plain",
            "out": waves_folder / "run",
            "batch_size": 4,
            "samples": 24,
            "checkpoint_samples": 8,
            "log_every": 2,
            "device": "cpu",
            "precision": "fp32",
            "lr_walk": 1e-3,
            "lr_f": 1e-3,
        }
        return NavigatorConfig(**{**settings, **changes})

    return make


@pytest.fixture
def small_estimator(monkeypatch):
    """f as a thin network with batch norm: runs of it cost nothing, and its checkpoints are small."""

    def build(config):
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            trunk = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
                torch.nn.BatchNorm2d(8),
                torch.nn.ReLU(),
                torch.nn.AdaptiveAvgPool2d(1),
                torch.nn.Flatten(),
            )
        return torch.nn.Sequential(trunk, Projector(8, 16, config.seed))

    for module in (trainer, compare):
        monkeypatch.setattr(module, "build_estimator", build)


@pytest.fixture
def stylegan():
    """Source of a StyleGAN2 of 8 pixels and 4 layers, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StyleGAN2Network(
            StyleGAN2Config(z_dim=8, w_dim=8, resolution=8, channels=(8, 8), num_mapping_layers=2)
        )
        network.mapping.w_avg.normal_()
    generator = StyleGAN2Generator(network, truncation=0.7)
    return source_of(generator)


def source_of(generator):
    """A generator without a file."""
    from genrep.generate.recipes.conditions import make_conditions

    return FrozenGenerator(
        generator=generator,
        recipe=Recipe(name="ours", family="module", views=view_from_json("none")),
        latent=generator.latent,
        conditions=make_conditions(tuple(range(generator.num_classes)), generator),
        device=torch.device("cpu"),
        digest=None,
    )


class Painter:
    """Flat images whose colour is the latent's first three components; the others do nothing."""

    latent = LatentSpec(dim=24)
    num_classes = 0
    image_shape = (4, 4)

    def synthesize(self, z, y=None):
        return torch.tanh(z[:, :3, None, None]).expand(-1, -1, 4, 4)


@pytest.fixture
def painter():
    """Source of the painter."""
    return source_of(Painter())


@pytest.fixture
def indices():
    """The first eight anchors."""
    return np.arange(8, dtype=np.int64)
