"""The discriminator: what it sees, its size, its loss, and the file that it is kept in."""

import math

import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur, normalize

from genrep.errors import WeightsError
from genrep.generate.views.filter_network import (
    FilterFacts,
    channels_for,
    discriminator_loss,
    load_filter,
    new_scorer,
    save_filter,
)
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD
from genrep.tensor_files import safetensors_bytes

FACTS = FilterFacts(gen="bigbigan", data="imagenet", images="1000")


def levels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_sees_the_image_blurred_and_normalised_as_the_paper_says():
    images = levels(3, 9, 12, 3)
    pixels = images.permute(0, 3, 1, 2).double() / 255
    wanted = normalize(gaussian_blur(pixels, [5, 5], [1.5, 1.5]), list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert torch.allclose(new_scorer(9, 12, 0).prepare(images).double(), wanted, atol=1e-5)


def test_the_network_grows_with_the_image():
    assert channels_for(4, 4) == (16,)
    assert channels_for(32, 32) == (16, 32, 64, 128)
    assert channels_for(384, 512)[-2:] == (256, 256)
    for height, width in ((4, 4), (5, 9), (17, 31), (32, 32), (96, 128)):
        assert new_scorer(height, width, 0)(levels(2, height, width, 3)).shape == (2,)


def test_its_start_is_the_seeds_and_leaves_the_callers_stream_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = new_scorer(8, 8, 1), new_scorer(8, 8, 1), new_scorer(8, 8, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.out.weight, second.out.weight)
    assert not torch.equal(first.out.weight, other.out.weight)


def test_a_score_depends_on_its_image_alone():
    scorer, images = new_scorer(16, 16, 0), levels(6, 16, 16, 3)
    alone = torch.stack([scorer(image[None])[0] for image in images])
    assert torch.allclose(scorer.train()(images), alone, atol=1e-5)


def test_the_loss_is_binary_cross_entropy_of_real_against_generated():
    on_real, on_generated = torch.tensor([2.0, -1.0, 0.3]), torch.tensor([-4.0, 0.5, 100.0])

    def probability(log_odds):
        return 1 / (1 + math.exp(-log_odds))

    real = [-math.log(probability(value)) for value in on_real.tolist()]
    generated = [math.log(1 + math.exp(value)) for value in on_generated.tolist()]
    wanted = (sum(real) + sum(generated)) / 6
    assert float(discriminator_loss(on_real, on_generated)) == pytest.approx(wanted, rel=1e-6)


def test_a_saved_filter_reads_back_the_same_from_its_file_and_its_folder(tmp_path):
    scorer = new_scorer(9, 12, 0)
    for name in ("filter.safetensors", "again.safetensors"):
        save_filter(tmp_path / name, scorer, FACTS)
    found, again = load_filter(tmp_path), load_filter(tmp_path / "again.safetensors")
    assert (found.facts, found.sha256, found.digest) == (FACTS, again.sha256, again.digest)
    assert torch.equal(found.scorer(levels(2, 9, 12, 3)), scorer(levels(2, 9, 12, 3)))
    assert not any(parameter.requires_grad for parameter in found.scorer.parameters())
    save_filter(tmp_path / "other.safetensors", new_scorer(9, 12, 1), FACTS)
    assert load_filter(tmp_path / "other.safetensors").digest != found.digest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t, m: m.update(genrep="navigator/1"), r"genrep = 'navigator/1', wanted 'filter/1'"),
        (lambda t, m: m.update(height="1e9"), r"height '1e9', wanted 4 to 8192 pixels"),
        (lambda t, m: m.pop("width"), r"width '', wanted 4 to 8192 pixels"),
        (lambda t, m: m.update(width="99999"), r"width '99999', wanted 4 to 8192"),
        (lambda t, m: m.update(width="64"), r"tensor out.weight of shape \(1, 512\), wanted \(1, 4096\)"),
        (lambda t, m: t.pop("convs.0.bias"), r"tensor convs.0.bias is missing or unknown"),
        (lambda t, m: t.clear(), r"tensor convs.0.weight is missing or unknown|tensor out.bias is missing"),
        (lambda t, m: t.update(spare=torch.ones(1)), r"tensor spare is missing or unknown"),
        (lambda t, m: t["convs.1.weight"].fill_(math.nan), r"tensor convs.1.weight holds NaN or infinity"),
        (
            lambda t, m: t.update({"convs.1.weight": torch.ones(32, 8, 3, 3)}),
            r"convs.1.weight of shape \(32, 8, 3, 3\)",
        ),
    ],
)
def test_a_file_that_is_no_filter_is_refused_in_one_line(tmp_path, change, line):
    tensors = {name: tensor.clone() for name, tensor in new_scorer(8, 8, 0).state_dict().items()}
    metadata = {"genrep": "filter/1", "height": "8", "width": "8"}
    change(tensors, metadata)
    path = tmp_path / "filter.safetensors"
    path.write_bytes(safetensors_bytes(tensors, metadata))
    with pytest.raises(WeightsError, match=line) as raised:
        load_filter(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"no such filter; a finished run of fit-filter writes filter\.safetensors"):
        load_filter(tmp_path)
    (tmp_path / "filter.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match=r"filter\.safetensors: not a readable safetensors file"):
        load_filter(tmp_path)
