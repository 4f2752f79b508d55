"""What the tests of StyleGAN2's files have in common."""

from pathlib import Path

import pytest
import torch

from genrep.errors import WeightsError
from genrep.generate.generators.stylegan2 import family
from genrep.unpickle import read_file

TOLERANCE, W_TOLERANCE = 2e-4, 1e-5


def read(path):
    found = family.recognise(read_file(Path(path)), Path(path), named=False)
    assert found is not None and found.family == "stylegan2"
    return found


def saved(path, content):
    torch.save(content, path)
    return path


def difference(a, b):
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max())


def images(checkpoint, z, y=None, **options):
    with torch.no_grad():
        return family.open_checkpoint(checkpoint, **options).synthesize(z, y)


def latents(z_dim=7, count=2):
    return torch.randn(count, z_dim, generator=torch.Generator().manual_seed(3))


def refused(content, path="w.pkl"):
    """What the refusal says after the file's name, in one line."""
    with pytest.raises(WeightsError, match=rf"^weights {path}: [^\n]*$") as error:
        family.recognise(content, Path(path), named=False)
    return str(error.value).removeprefix(f"weights {path}: ")
