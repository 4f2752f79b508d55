"""Generators that say what they were asked for, and a filter for their images."""

import pytest

MODULE = '''
import torch

import toygen

asked = []  # batch sizes of every call


class Counting(toygen.Toy):
    def synthesize(self, z, y=None):
        asked.append(len(z))
        return super().synthesize(z, y)


def counting():
    return Counting()


def counting_conditional():
    return Counting(num_classes=3)


def late_nan():
    """Sane but where the first number of the latent is large."""

    class Nan(toygen.Toy):
        def synthesize(self, z, y=None):
            image = super().synthesize(z, y)
            return torch.where(z[:, :1, None, None] > 1.5, torch.nan, image)

    return Nan()


def linear():
    """Images that autocast would round."""

    class Linear(toygen.Toy):
        weight = torch.randn(6, 192, generator=torch.Generator().manual_seed(0)) / 3

        def synthesize(self, z, y=None):
            return (z @ self.weight).view(-1, 3, 8, 8).tanh()

    return Linear()
'''


@pytest.fixture
def folder(toy_folder, module_here, monkeypatch):
    """The current folder, holding toygen.py and onlinegen.py."""
    monkeypatch.syspath_prepend(toy_folder)
    return module_here("onlinegen", MODULE)
