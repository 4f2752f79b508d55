"""A generator that costs nothing, in a module of the kind that a user would write."""

import sys
import textwrap

import pytest

from genrep.generate.views.filter_network import FilterFacts, new_scorer, save_filter

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
    """Slow enough to be stopped at its work. With TOY_CALLS it goes no further after as many while its parent lives."""
    import os
    import time

    calls, parent = iter(range(int(os.environ.get("TOY_CALLS", 10**9)))), os.getppid()

    class Slow(Toy):
        def synthesize(self, z, y=None):
            wait = next(calls, None) is None
            time.sleep(0.02)
            while wait and os.getppid() == parent:
                time.sleep(0.02)
            return super().synthesize(z, y)

    return Slow()


def raising():
    class Raising(Toy):
        def synthesize(self, z, y=None):
            raise ValueError("no more ideas")

    return Raising()


def tiring():
    class Tiring(Toy):
        def synthesize(self, z, y=None):
            if len(z) > 2:
                raise ValueError("no more ideas")
            return super().synthesize(z, y)

    return Tiring()


def nan():
    class Nan(Toy):
        def synthesize(self, z, y=None):
            images = super().synthesize(z, y).clone()
            images[3:4] = float("nan")
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


def hungry():
    class Hungry(Toy):
        """A device that holds 16 images."""

        def synthesize(self, z, y=None):
            if len(z) > 16:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().synthesize(z, y)

    return Hungry()


def instances():
    from types import SimpleNamespace

    class Instances(Toy):
        """Conditioned on five rows, of which two are of class 0 and three of class 4."""

        def __init__(self):
            super().__init__(num_classes=5)
            labels = torch.tensor([0, 4, 4, 0, 4])
            self.instances = SimpleNamespace(features=torch.eye(5), labels=labels, digest=lambda: "5" * 64)

        def synthesize(self, z, y=None):
            return super().synthesize(z) + y.view(-1, 1, 1, 1) / 10

    return Instances()


class Diffuser:
    """A sampler in miniature: spatial noise, prompts or classes, noise in its steps, and images that it edits.

    An image tells what it was made with: its three channels are the mean of the noise, of the steps' noise, and the
    condition; an edited one adds the anchor's by strength.
    """

    def __init__(self, takes_prompts=True, draws_noise=True, num_classes=0):
        self.latent = LatentSpec(shape=(2, 4, 4))
        self.num_classes, self.image_shape = num_classes, (8, 8)
        self.takes_prompts, self.draws_noise = takes_prompts, draws_noise

    def synthesize(self, z, y=None, noise=None):
        assert z.shape[1:] == (2, 4, 4)
        steps = torch.zeros(len(z))
        if self.draws_noise:
            steps = sum(torch.from_numpy(noise(step, 8)).mean(1) for step in range(3))
        condition = torch.zeros(len(z))
        if self.takes_prompts:
            assert len(y) == len(z)
            condition = torch.tensor([float(len(text)) for text in y]) / 50
        elif self.num_classes:
            condition = y.float() / 50
        values = torch.stack([z.mean(dim=(1, 2, 3)), steps, condition], dim=1)
        return values[:, :, None, None].expand(-1, -1, 8, 8)

    def edit(self, images, z, y=None, *, strength, noise=None):
        part = strength.view(-1, 1, 1, 1)
        return (1 - part) * images + part * self.synthesize(z, y, noise)

    def vary(self, images, z, y=None, *, noise_level, noise=None):
        assert noise_level.dtype == torch.int64
        return self.edit(images, z, y, strength=noise_level / 1000, noise=noise)


def diffuser():
    return Diffuser()


def diffuser_plain():
    return Diffuser(takes_prompts=False, draws_noise=False)


def diffuser_classes():
    return Diffuser(takes_prompts=False, draws_noise=False, num_classes=2)


def slow_diffuser():
    """As ``slow``, with prompts and edits."""
    inner = slow()

    class SlowDiffuser(Diffuser):
        def synthesize(self, z, y=None, noise=None):
            inner.synthesize(z.flatten(1)[:, :6])
            return super().synthesize(z, y, noise)

    return SlowDiffuser()


def bytes_range():
    class Bytes(Toy):
        def synthesize(self, z, y=None):
            return (super().synthesize(z, y) + 1) * 127.5

    return Bytes()


def elsewhere():
    class Elsewhere(Toy):
        def synthesize(self, z, y=None):
            return super().synthesize(z, y).to("meta")

    return Elsewhere()


def without_gradient():
    class NoGradient(Toy):
        @torch.no_grad()
        def synthesize(self, z, y=None):
            return super().synthesize(z, y)

    return NoGradient()


def numpy_inside():
    class NumpyInside(Toy):
        def synthesize(self, z, y=None):
            return torch.from_numpy(super().synthesize(z, y).numpy().copy())

    return NumpyInside()


def odd_latent():
    generator = Toy()
    generator.latent = 6
    return generator


def odd_classes():
    generator = Toy()
    generator.num_classes = None
    return generator


def odd_shape():
    generator = Toy()
    generator.image_shape = 8
    return generator


def module():
    class Module(torch.nn.Module):
        latent, num_classes, image_shape = LatentSpec(dim=6), 0, (8, 8)

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(6, 3 * 64)

        def synthesize(self, z, y=None):
            return self.layer(torch.nn.functional.dropout(z, training=self.training)).view(-1, 3, 8, 8).tanh()

    return Module()


def scripted():
    class Mine:
        latent, num_classes, image_shape = LatentSpec(dim=192), 0, (8, 8)

        def __init__(self):
            self.network = torch.jit.script(torch.nn.Unflatten(1, (3, 8, 8)))

        def synthesize(self, z, y=None):
            return self.network(z.tanh())

    return Mine()


def no_latent():
    class Nothing:
        num_classes = 0

    return Nothing()


def broken():
    raise RuntimeError("no such checkpoint")
'''


@pytest.fixture
def module_here(tmp_path, monkeypatch):
    """``module_here(name, code)``: the current folder, holding a module that is imported anew."""

    def write(name, code):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return tmp_path

    return write


@pytest.fixture
def toy_folder(module_here):
    """The current folder, holding toygen.py."""
    return module_here("toygen", TOY)


@pytest.fixture
def filter_file(toy_folder):
    """A discriminator of 8x8 images that nobody trained; its opinions are as good as any."""
    path = toy_folder / "filter.safetensors"
    save_filter(path, new_scorer(8, 8, seed=3), FilterFacts(gen="toygen:plain", data="toy", images="0"))
    return path
