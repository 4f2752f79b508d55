"""A generator whose true walks are known: a soft disc whose place, size and colour are read off the latent."""

import pytest
import torch

from genrep.generate.fits.config import SteerConfig
from genrep.generate.fits.frozen import open_frozen
from genrep.generate.fits.steering_targets import COLOR, ROWS
from genrep.generate.views.walks import load_walks

MODULE = '''
import torch
from genrep.generate import LatentSpec

SIZE = 16


class Discs:
    """z = (x, y, log radius, red, green, blue, two components without effect); shifts of SIZE pixels per 4 units of z."""

    def __init__(self, num_classes=0, gray=False):
        self.latent = LatentSpec(dim=8, scale=0.5)
        self.num_classes, self.gray = num_classes, gray
        self.image_shape = (SIZE, SIZE)
        self.gain = torch.nn.Parameter(torch.ones(1))  # not frozen, as a user may leave it
        self.classes = []

    def synthesize(self, z, y=None):
        if y is not None:
            self.classes += y.tolist()
        middles = torch.arange(SIZE) + 0.5 - SIZE / 2
        dx = middles - z[:, 0, None] * SIZE / 4
        dy = middles - z[:, 1, None] * SIZE / 4
        radius = 2.5 * torch.exp(0.5 * z[:, 2])[:, None, None]
        disc = torch.exp(-(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / (2 * radius**2))
        color = z[:, 3:6].mean(dim=1, keepdim=True).expand(-1, 3) if self.gray else z[:, 3:6]
        return self.gain * (1.5 * disc[:, None] - 1 + color[:, :, None, None])


class Blind(Discs):
    def synthesize(self, z, y=None):
        return super().synthesize(z.detach(), y).detach()


class Exploding(Discs):
    def synthesize(self, z, y=None):
        return super().synthesize(z, y) / (z[:, :1, None, None] > -0.5)


class Noisy(Discs):
    """With noise of its own, as StyleGAN2 can have."""

    def synthesize(self, z, y=None):
        images = super().synthesize(z, y)
        return images + torch.randn(images.shape)


def slow():
    import time

    class Slow(Discs):
        def synthesize(self, z, y=None):
            time.sleep(0.005)
            return super().synthesize(z, y)

    return Slow()


def plain():
    return Discs()


def gray():
    return Discs(gray=True)


def conditional():
    return Discs(num_classes=3)


def blind():
    return Blind()


def exploding():
    return Exploding()


def noisy():
    return Noisy()
'''


@pytest.fixture(scope="session")
def rows_of():
    """The walks of a file or a run's folder as they are learned: ``(8, d)``, a row for each of ROWS."""

    def read(path):
        walks = load_walks(path).walks
        return torch.cat([torch.from_numpy(walks[name]).T for name in (*ROWS[: COLOR.start], "color")]).float()

    return read


@pytest.fixture
def disc_folder(module_here):
    """The current folder, holding discgen.py."""
    return module_here("discgen", MODULE)


@pytest.fixture
def discs(disc_folder):
    """Source of the plain discs."""
    return open_frozen("discgen:plain", None, torch.device("cpu"))


@pytest.fixture
def config(disc_folder):
    """Settings of a run of ten steps."""

    def make(name="run", **changes):
        settings = {"gen": "discgen:plain", "samples": 160, "batch_size": 16, "log_every": 3, "measure_images": 0}
        return SteerConfig(out=disc_folder / name, **{**settings, "checkpoint_samples": 64, "device": "cpu", **changes})

    return make


@pytest.fixture
def one_thread():
    """Sums in one order, as two processes must have them to agree to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
