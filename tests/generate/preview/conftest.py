"""Generators in a module of a user's, and previews of them."""

from pathlib import Path

import pytest

from genrep.generate.preview.config import PreviewConfig
from genrep.generate.preview.run import preview_views

GENERATORS = '''
import torch
from genrep.generate import LatentSpec


class Bands:
    """Three chunks of two components; each colours a band of its own."""

    def __init__(self, size=(6, 4), num_classes=0, chunks=(2, 2, 2), gain=1.0):
        self.latent = LatentSpec(dim=6, chunks=chunks)
        self.num_classes, self.image_shape, self.gain = num_classes, size, gain

    def synthesize(self, z, y=None):
        height, width = self.image_shape
        parts = torch.sin(z * self.gain).view(-1, 3, 2).repeat_interleave(height // 3, dim=1)
        shade = 0.0 if y is None else (y.view(-1, 1, 1, 1) - 1) / 10
        ramp = torch.linspace(0.2, 1, width)
        return (parts.mean(2)[:, None, :, None] * ramp).expand(-1, 3, -1, -1) + shade


def bands():
    return Bands()


def conditional():
    return Bands(num_classes=3)


def whole():
    return Bands(chunks=())


def large():
    return Bands(size=(300, 400))


def broken():
    generator = Bands()
    make = generator.synthesize
    generator.synthesize = lambda z, y=None: make(z, y) / (1 if len(z) == 2 else 0)  # a probe has two latents
    return generator


def raising():
    generator = Bands()
    make = generator.synthesize

    def synthesize(z, y=None):
        if len(z) > 2:
            raise ValueError("no more ideas")
        return make(z, y)

    generator.synthesize = synthesize
    return generator
'''


@pytest.fixture
def gens(module_here):
    """The current folder, holding bandgen.py."""
    return module_here("bandgen", GENERATORS)


@pytest.fixture
def preview(gens):
    """Draws a preview: ``preview("gaussian", ..., gen="bandgen:bands", ...)``."""

    def make(*views, gen="bandgen:bands", **options):
        settings = {"out": Path("sheet.png"), "device": "cpu", "num_anchors": 3, "num_positives": 2, **options}
        return preview_views(PreviewConfig(gen=gen, views=views, **settings))

    return make
