"""Files of learned views, and laws to draw anchors from."""

import numpy as np
import pytest
import torch

from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import Draw
from genrep.generate.views.navigators import Walk, WalkFacts, save_walk
from genrep.generate.views.walks import save_walks


def draw(count, k=0, seed=0):
    return Draw(seed=seed, indices=np.arange(count), k=k)


@pytest.fixture
def chunked():
    """BigBiGAN's latent: six chunks of twenty."""
    return LatentSpec(dim=120, chunks=(20,) * 6, law="truncated_normal", truncation=2.0)


@pytest.fixture
def navigator(tmp_path):
    """Writes a navigator with random weights: ``navigator(dim, activation=, chunks=, layers=, max_distance=)``."""

    def make(dim, *, activation="relu", chunks="", layers="", max_distance=None, seed=0, gain=1.0, hidden=None):
        walk = Walk((dim, hidden or dim, dim), activation=activation, max_distance=max_distance)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in walk.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * gain / dim**0.5)
        path = tmp_path / f"navigator-{dim}-{seed}-{gain}-{activation}-{chunks}-{layers}-{max_distance}.safetensors"
        save_walk(path, walk, WalkFacts(chunks=chunks, layers=layers))
        return path

    return make


@pytest.fixture
def walks(tmp_path):
    """A file of all six of GenRep's walks in a latent of 16 components; walk i moves components 2i and 2i + 1 alone."""
    names = ("shift_x", "shift_y", "zoom", "rotate_2d", "rotate_3d")
    content = {name: np.zeros(16, dtype=np.float32) for name in names}
    for i, name in enumerate(names):
        content[name][2 * i : 2 * i + 2] = 1.0, 2.0
    color = np.zeros((16, 3), dtype=np.float32)
    color[10:13] = np.eye(3)
    return save_walks(tmp_path / "walks.safetensors", {**content, "color": color}, {"gen": "test"})
