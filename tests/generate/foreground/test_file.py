"""Ratios, qualities and noise levels against loops; the file is read as a stranger's."""

import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genrep.errors import RecipeError, WeightsError
from genrep.generate.views import Draw, parse_view, view_from_json
from genrep.generate.views.foreground import Weigher, noise_levels, parse_weigh
from genrep.generate.views.foreground_network import Foreground, load_foreground, normalised, similarity

from .conftest import disc
from .loops import Loops


@pytest.fixture(scope="module")
def foreground(fitted):
    return Foreground(load_foreground(fitted[1].path), torch.device("cpu"))


def pictures(count, seed=5):
    random = np.random.RandomState(seed)
    return torch.from_numpy(np.stack([disc(random.uniform(3, 18), random) for _ in range(count)]))


def test_noise_levels_are_those_of_the_table():
    edges = {0: 0, 0.199: 0, 0.2: 100, 0.39: 100, 0.4: 200, 0.6: 300, 0.79: 300, 0.8: 400, 1.0: 400}
    assert noise_levels(np.array(list(edges))).tolist() == list(edges.values())
    for patches in range(1, 101):  # a ratio is a quotient: no rounding may put it on the other side of an edge
        found = noise_levels(np.arange(patches + 1) / patches)
        assert found.tolist() == [min(4, 5 * count // patches) * 100 for count in range(patches + 1)]


def test_ratios_and_qualities_are_those_of_the_loops(fitted, foreground):
    loops, images = Loops(fitted[1].path), pictures(6)
    assert foreground.ratios(images).tolist() == [loops.ratio(image) for image in images.numpy()]
    pixels = images.numpy()
    found = foreground.qualities(images[:2], [images[2:4], images[4:6]])
    for row in range(2):
        each = [loops.quality(pixels[row], pixels[k + row]) for k in (2, 4)]
        assert abs(float(found[row]) - sum(each) / 2) < 1e-6
    weights = Weigher(foreground, 2.5).weights(found)
    assert weights.tolist() == [math.exp(2.5 * q) for q in found.tolist()]


def test_no_batch_changes_a_bit(foreground):
    images = pictures(5)
    one = [foreground.qualities(images[i : i + 1], [images[4 - i : 5 - i]]) for i in range(5)]
    assert torch.cat(one).equal(foreground.qualities(images, [images.flip(0)]))
    assert torch.cat([foreground.ratios(image[None]) for image in images]).equal(foreground.ratios(images))


def test_weights_over_their_mean_are_a_softmax_of_qualities(foreground):
    qualities = torch.tensor([0.3, -0.1, 0.0, 0.45], dtype=torch.float64)
    weights = Weigher(foreground, 3.0).weights(qualities)
    wanted = 4 * torch.softmax(3.0 * qualities, dim=0)
    assert np.abs(weights / weights.mean() - wanted.numpy()).max() < 1e-12


def test_images_without_contrast_and_features_of_nothing_have_a_quality(foreground):
    assert normalised(torch.full((2, 2), 3.0)).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert normalised(torch.tensor([1.0, 2.0, 5.0])).tolist() == [0.0, 0.25, 1.0]
    assert similarity(torch.zeros(1, 3), torch.ones(1, 3)).tolist() == [0.0]
    gray = torch.full((1, 32, 32, 3), 90, dtype=torch.uint8)
    assert abs(float(foreground.qualities(gray, [gray]))) < 1e-9


def test_an_image_of_another_size_is_resized_by_its_shorter_side(foreground):
    features, projections = foreground.project(torch.zeros(48, 96, 3, dtype=torch.uint8))
    assert features.shape == (512, 4, 8) and projections.shape == (4, 8)


def changed(fitted, path, tensors=(), metadata=(), without=()):
    """A copy of the fitted file with other content."""
    from safetensors import safe_open

    with safe_open(fitted[1].path, "pt") as file:
        facts = {**file.metadata(), **dict(metadata)}
    content = {**load_file(fitted[1].path), **dict(tensors)}
    save_file({name: value for name, value in content.items() if name not in without}, path, facts)
    return path


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"metadata": {"genrep": "filter/1"}}, "genrep = filter/1, wanted 'foreground/1'"),
        ({"metadata": {"arch": "vit\x1b[31m"}}, "wanted one of resnet18"),
        ({"metadata": {"arch": "resnet50"}}, "do not fit a foreground of resnet50"),
        ({"metadata": {"stem": "imagenet"}}, "encoder.conv1.weight has shape"),
        ({"without": ["threshold"]}, "threshold is missing"),
        ({"tensors": {"more": torch.zeros(2)}}, "more is unknown"),
        ({"tensors": {"mean": torch.zeros(7)}}, "mean has shape (7,), wanted (512,)"),
        ({"tensors": {"mean": torch.full((512,), torch.nan)}}, "mean is not finite"),
        ({"tensors": {"direction": torch.zeros(512)}}, "direction of length 0, wanted 1"),
        ({"tensors": {"threshold": torch.tensor(torch.inf, dtype=torch.float64)}}, "threshold inf, wanted a number"),
        ({"tensors": {"threshold": torch.tensor(1)}}, "wanted a number as float64"),
        ({"tensors": {"size": torch.tensor(5000)}}, "size 5000, wanted 1 to 1024"),
        ({"tensors": {"size": torch.tensor(32.0)}}, "size 0, wanted 1 to 1024 pixels as int64"),
        ({"tensors": {"pixel_std": torch.zeros(3)}}, "wanted three numbers above 0"),
    ],
)
def test_a_file_that_is_no_foreground_is_refused_in_one_line(fitted, tmp_path, changes, line):
    path = changed(fitted, tmp_path / "fg.safetensors", **changes)
    with pytest.raises(WeightsError) as caught:
        load_foreground(path)
    said = str(caught.value)
    assert line in said and "\n" not in said and "\x1b" not in said and str(path) in said


def test_other_files_are_refused_in_one_line(fitted, local_encoder, tmp_path, filter_file):
    whole = fitted[1].path.read_bytes()
    for name, data in (("cut", whole[:5000]), ("text", b"hello"), ("empty", b""), ("pickle", b"\x80\x02}q\x00.")):
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    paths = [tmp_path / f"{name}.safetensors" for name in ("cut", "text", "empty", "pickle", "missing")]
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in [*paths, tmp_path / "pipe.safetensors", tmp_path, local_encoder, filter_file]:
        with pytest.raises(WeightsError) as caught:
            load_foreground(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_views_with_and_without_a_file(fitted, tmp_path):
    assert parse_view("unclip:noise_level=100-300").to_json() == {"name": "unclip", "noise_level": "100-300"}
    view = parse_view(f"unclip:noise_level=auto,foreground={fitted[1].path}")
    record = view.to_json()
    digest = load_foreground(fitted[1].path).file.digest
    assert record == {"name": "unclip", "noise_level": "auto", "digest": digest}
    assert view.files()[0].digest == digest and view.parameter_names == ("noise_level",) and view.needs_images
    again = view_from_json(record, strangers=True)
    assert again == view and hash(again) == hash(view) and not again.files() and not again.latents_need_files
    assert view != parse_view("unclip:noise_level=100") != parse_view("unclip:noise_level=200")
    drawn = Draw(seed=0, indices=np.arange(3, dtype=np.int64))
    assert view.parameters(drawn, np.array([0.1, 0.5, 1.0]))["noise_level"].tolist() == [0, 200, 400]
    other = changed(fitted, tmp_path / "other.safetensors", {"threshold": torch.tensor(0.5, dtype=torch.float64)})
    assert load_foreground(other).file.digest != digest
    with pytest.raises(RecipeError, match="has digest"):
        view_from_json({**record, "foreground": str(other)}).to_json()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: parse_view("unclip:noise_level=auto"), "needs foreground=FILE"),
        (lambda: parse_view("unclip:noise_level=100,foreground=x"), "foreground=FILE belongs to noise_level=auto"),
        (lambda: parse_view("unclip:noise_level=Auto"), "wanted a number or LOW-HIGH"),
        (
            lambda: view_from_json(
                {"name": "unclip", "noise_level": "auto", "foreground": "/etc/passwd"}, strangers=True
            ),
            "names a file of this machine",
        ),
        (lambda: parse_weigh("gamma=2"), "wanted foreground=FILE"),
        (lambda: parse_weigh("foreground=x,gamma=much"), "gamma='much' is not a number"),
        (lambda: parse_weigh("foreground=x,gamma=0"), "gamma=0.0, wanted a number above 0, at most 100"),
        (lambda: parse_weigh("foreground=x,gamma=nan"), "gamma=nan, wanted"),
        (lambda: parse_weigh("foreground=x,beta=1"), "'beta=1' is not foreground=FILE or gamma=NUMBER"),
        (lambda: parse_weigh("foreground=x,foreground=y"), "each once"),
    ],
)
def test_texts_that_name_no_view_or_weight(call, line):
    with pytest.raises(RecipeError) as caught:
        call()
    assert line in str(caught.value)
