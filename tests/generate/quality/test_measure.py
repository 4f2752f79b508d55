"""measure-gan: the classifier, and what is measured of which generator."""

import json

import numpy as np
import pytest
import torch

from genrep.errors import ConfigError, DataError
from genrep.generate.quality import measure
from genrep.generate.quality.classifier import Classifier, train_classifier
from genrep.generate.quality.config import MeasureGanConfig
from genrep.images.labelled import LabelledImages
from genrep.seeding import derive

KEYS = {"frechet", "precision", "recall", "density", "coverage"}


def striped(side=16, count=120):
    """Two classes of gray images: stripes across, and down; each of its own brightness."""
    random = np.random.default_rng(0)
    images = np.zeros((count, side, side, 3), dtype=np.uint8)
    for i in range(count):
        level = random.integers(100, 255)
        if i % 2:
            images[i, ::2] = level
        else:
            images[i, :, ::2] = level
    return LabelledImages("stripes", np.arange(count) % 2, ("across", "down"), pixels=images, licence="MIT")


STRIPES = '''
import torch
from genrep.generate import LatentSpec


class Stripes:
    """The images of the test, with classes as they are told, or the other way round."""

    def __init__(self, wrong=False, side=16):
        self.latent, self.num_classes, self.image_shape, self.wrong = LatentSpec(dim=2), 2, (side, side), wrong

    def synthesize(self, z, y=None):
        y = torch.zeros(len(z), dtype=torch.int64) if y is None else y
        y = y.argmax(1) if y.dim() == 2 else y
        side = self.image_shape[0]
        level = torch.sigmoid(z.sum(1)).view(-1, 1, 1, 1) * 1.2 - 0.2
        across = torch.full((side, side), -1.0)
        across[::2] = 1.0
        down = across.t()
        shape = torch.where((y == (0 if self.wrong else 1)).view(-1, 1, 1, 1), across, down)
        return torch.where(shape > 0, level, shape).expand(-1, 3, -1, -1) + 0 * z.sum()


def right():
    return Stripes()


def wrong():
    return Stripes(wrong=True)


def small():
    return Stripes(side=8)
'''


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The result of measuring a generator of the module ``stripes`` beside such images."""
    (tmp_path / "stripes.py").write_text(STRIPES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "load_images", lambda *given, **more: striped(count=2000))

    def run(name, **changes):
        given = {"data": "fashion_mnist", "num_images": 100, "device": "cpu", **changes}
        return measure.measure_gan(MeasureGanConfig(gen=f"stripes:{name}", out=tmp_path / "q.json", **given))

    return run


@pytest.mark.slow
def test_class_agreement_is_how_often_the_class_is_the_one_asked_for(measured, tmp_path):
    right, wrong = measured("right"), measured("wrong")
    assert right["classifier_test_top1"] == 1.0
    assert right["generated_class_agreement"] == 1.0 and wrong["generated_class_agreement"] == 0.0
    assert right["generated"].keys() == KEYS == right["real_test"].keys()
    assert right["real_test"]["coverage"] > 0.9
    assert right["generator"] == "stripes:right" and right["options"] == {}
    assert json.loads((tmp_path / "q.json").read_text()) == json.loads(json.dumps(wrong))


@pytest.mark.slow
def test_images_of_another_size_are_refused(measured):
    with pytest.raises(DataError, match=r"^data fashion_mnist: images of 16x16 pixels, the generator makes 8x8"):
        measured("small")


def test_a_measurement_needs_a_generator():
    with pytest.raises(ConfigError, match=r"^gen: wanted a generator, or its weights"):
        MeasureGanConfig(data="fashion_mnist", out="q.json")


@pytest.mark.parametrize("side", [8, 16])
def test_the_classifier_learns_from_fewer_images_than_a_batch_and_from_small_ones(side):
    data = striped(side, 64)
    network = train_classifier(data, 0, "cpu")
    torch.manual_seed(derive("quality-classifier", 0))
    assert not torch.equal(network.out.bias, Classifier(len(data.classes)).out.bias)
    assert len(network.features(torch.from_numpy(data.images))) == 64
