"""A generator that costs nothing, in a module of the kind that a user would write."""

import textwrap

import pytest

TOY = '''
import torch
from genrep.generate import LatentSpec


class Toy:
    """Eight-pixel images whose every value is a smooth function of the latent."""

    def __init__(self, num_classes=0):
        self.latent = LatentSpec(dim=6)
        self.num_classes = num_classes
        self.image_shape = (8, 8)

    def synthesize(self, z, y=None):
        grid = torch.arange(64.0).view(1, 1, 8, 8)
        image = torch.sin(z.sum(1).view(-1, 1, 1, 1) + grid * z[:, :1, None, None])
        return image.expand(-1, 3, -1, -1)


def plain():
    return Toy()


def conditional():
    return Toy(num_classes=3)


def slow():
    import time

    class Slow(Toy):
        def synthesize(self, z, y=None):
            time.sleep(0.02)
            return super().synthesize(z, y)

    return Slow()


def raising():
    class Raising(Toy):
        def synthesize(self, z, y=None):
            raise ValueError("no more ideas")

    return Raising()


def nan():
    class Nan(Toy):
        def synthesize(self, z, y=None):
            images = super().synthesize(z, y).clone()
            images[3] = float("nan")
            return images

    return Nan()


def wrong_shape():
    class Wrong(Toy):
        def synthesize(self, z, y=None):
            return super().synthesize(z, y)[:, :, :4]

    return Wrong()


def integers():
    class Integers(Toy):
        def synthesize(self, z, y=None):
            return super().synthesize(z, y).int()

    return Integers()


def no_latent():
    class Nothing:
        num_classes = 0

    return Nothing()


def broken():
    raise RuntimeError("no such checkpoint")
'''


@pytest.fixture
def toy_folder(tmp_path, monkeypatch):
    """The current folder, holding toygen.py."""
    (tmp_path / "toygen.py").write_text(textwrap.dedent(TOY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "toygen", raising=False)
    return tmp_path
