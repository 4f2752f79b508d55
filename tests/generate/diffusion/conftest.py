"""Training images of eight pixels a side, and settings of the smallest denoiser."""

import numpy as np
import pytest
import torch

from genrep.generate.diffusion.config import FitDiffusionConfig
from genrep.generate.training_images import TrainingImages
from genrep.images.labelled import LabelledImages


@pytest.fixture
def data():
    """Toy images: ``data(gray=False)`` has colour."""

    def make(gray=True):
        generator = np.random.default_rng(0)
        levels = generator.integers(0, 255, size=(64, 1, 1, 1 if gray else 3))
        images = np.broadcast_to(levels, (64, 8, 8, 3)).astype(np.uint8)
        return LabelledImages("toy", np.arange(64) % 2, ("even", "odd"), pixels=images, licence="MIT")

    return make


@pytest.fixture
def config(tmp_path):
    """Settings of a run in ``tmp_path / name``."""

    def make(name="run", **changes):
        network = {"channels": (4, 8), "norm_groups": 4, "embedding": 8, "attention": 4}
        lengths = {"batch_size": 8, "total_images": 64, "warmup_images": 16, "snapshot_images": 32}
        given = {**network, **lengths, "device": "cpu", "precision": "fp32", **changes}
        return FitDiffusionConfig(data="toy", out=tmp_path / name, **given)

    return make


@pytest.fixture
def denoiser(config, data):
    """A fresh denoiser of such settings."""
    from genrep.generate.diffusion.model import Denoiser

    def make(gray=True, **changes):
        settings, images = config(**changes), data(gray)
        real = TrainingImages(
            images,
            batch_size=settings.batch_size,
            seed=0,
            mirror=False,
            device=torch.device("cpu"),
            stream="diffusion-order",
        )
        return Denoiser(settings, real, len(images.classes) if settings.classes else 0)

    return make


@pytest.fixture
def one_thread():
    """Sums in one order, as two runs must have them to agree to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _short_sheets(monkeypatch):
    """Sheets cost most of so small a run."""
    monkeypatch.setattr("genrep.generate.diffusion.trainer.SHEET_STEPS", 2)
