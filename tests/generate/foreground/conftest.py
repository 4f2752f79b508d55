"""Bright discs on dark ground, an encoder that sees no further than a patch, and the foreground that it finds in them."""

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.encoders import EncoderFacts, build_encoder, save_encoder
from genrep.generate.fits.config import ForegroundConfig
from genrep.generate.fits.foreground import fit_foreground

SIDE = 32  # pixels of an image: 4x4 patches
DARK = 0.1  # the ground's level
MODULE = '''
import torch
from genrep.generate import LatentSpec


class Discs:
    """A disc whose radius and place are the latent's; varied ones are mixed with a gray of the latent's, by level."""

    latent, num_classes, image_shape = LatentSpec(dim=4), 0, (32, 32)

    def synthesize(self, z, y=None):
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        radius = 24 * torch.sigmoid(2 * z[:, 0]).view(-1, 1, 1)
        top, left = (15.5 + 2 * z[:, i].view(-1, 1, 1) for i in (1, 2))
        inside = ((y - top) ** 2 + (x - left) ** 2 < radius**2).float()
        grain = 0.1 * torch.sin(x + y * z[:, 3].view(-1, 1, 1))
        return (inside * 1.6 - 0.8 + grain)[:, None].expand(-1, 3, -1, -1)

    def vary(self, images, z, y=None, *, noise_level, noise=None):
        assert noise_level.dtype == torch.int64
        part = (noise_level / 1000).view(-1, 1, 1, 1)
        return (1 - part) * images + part * torch.tanh(z[:, :1]).view(-1, 1, 1, 1)


def discs():
    return Discs()
'''


def disc(radius, random, *, side=SIDE, shift=(0.0, 0.0)):
    """A disc of a radius in pixels. Shape: (side, side, 3) uint8."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = (y - shift[0]) ** 2 + (x - shift[1]) ** 2 < radius**2
    dark, bright = random.randint(10, 40, (side, side, 3)), random.randint(200, 240, (side, side, 3))
    return np.where(inside[..., None], bright, dark).astype(np.uint8)


def save_discs(folder, count=12, *, turned=False):
    """Discs of radius 4 to 14 as files; their radii. ``turned``: dark on bright ground."""
    random, folder = np.random.RandomState(0), folder
    folder.mkdir(parents=True)
    radii = np.linspace(4, 14, count)
    for i, radius in enumerate(radii):
        image = disc(radius, random)
        Image.fromarray(255 - image if turned else image).save(folder / f"{i:02d}.png")
    return radii


def save_local(path, ground):
    """An encoder that sees no further than a patch, for its residual branches give nothing yet.

    The zeros around its input are of the level ``ground``, so that it sees no border either.
    """
    facts = EncoderFacts(arch="resnet18", stem="cifar", size=SIDE, mean=(ground,) * 3, std=(0.25,) * 3)
    save_encoder(path, build_encoder("resnet18", "cifar", 0, zero_init_residual=True), facts)
    return path


@pytest.fixture(scope="session")
def local_encoder(tmp_path_factory):
    return save_local(tmp_path_factory.mktemp("local") / "encoder.safetensors", DARK)


@pytest.fixture(scope="session")
def fitted(local_encoder, tmp_path_factory):
    """A fit on discs: its settings, its result and the discs' radii. It is not to be changed."""
    folder = tmp_path_factory.mktemp("fitted")
    radii = save_discs(folder / "discs")
    config = ForegroundConfig(
        data=str(folder / "discs"), encoder=str(local_encoder), out=folder / "fg.safetensors", device="cpu"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return config, fit_foreground(config), radii
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def here(module_here, fitted):
    """The current folder, with discgen.py and a link to the fitted file."""
    folder = module_here("discgen", MODULE)
    (folder / "fg.safetensors").symlink_to(fitted[1].path)
    return folder
