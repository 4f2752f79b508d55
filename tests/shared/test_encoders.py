"""Encoders: torchvision's keys, a strict reader, initialisation from the seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save

from genrep.encoders import EncoderFacts, Projector, architecture, build_encoder, load_encoder, save_encoder
from genrep.encoders.architectures import RESNETS
from genrep.errors import WeightsError

FACTS = EncoderFacts(arch="resnet18", stem="imagenet", size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_encoder(path, build_encoder("resnet18", "imagenet", seed=3), FACTS)
    return path


def test_loads_into_torchvision_with_only_fc_missing(written: Path) -> None:
    model = torchvision.models.resnet18()
    missing, unexpected = model.load_state_dict(load_file(written), strict=False)
    assert sorted(missing) == ["fc.bias", "fc.weight"]
    assert unexpected == []


def test_round_trip(written: Path) -> None:
    encoder = load_encoder(written.parent)  # the folder of a run
    assert encoder.facts == FACTS
    assert encoder.path == written
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = encoder.module(images)
        assert torch.equal(features, build_encoder("resnet18", "imagenet", seed=3).eval()(images))
    assert features.shape == (2, 512)


def test_initialisation_is_the_seeds_and_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (build_encoder("resnet18", "cifar", seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_cifar_stem_keeps_small_images() -> None:
    encoder = build_encoder("resnet18", "cifar", 0)
    with torch.no_grad():
        assert encoder.conv1(torch.zeros(1, 3, 32, 32)).shape[2:] == (32, 32)
        assert encoder.maxpool(torch.zeros(1, 64, 32, 32)).shape[2:] == (32, 32)


@pytest.mark.parametrize("arch", RESNETS)
def test_feature_length(arch: str) -> None:
    with torch.device("meta"):
        model, ours = getattr(torchvision.models, arch)(), build_encoder(arch, "imagenet", 0)
    assert model.fc.in_features == RESNETS[arch] * 64 == ours.width
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items() if not name.startswith("fc.")
    }


@pytest.mark.parametrize(("arch", "channels"), [("resnet18:width=8", 64), ("resnet50:width=4", 128)])
def test_a_width_scales_every_stage(arch: str, channels: int) -> None:
    encoder = build_encoder(arch, "cifar", 0, zero_init_residual=True)
    whole = build_encoder(arch.partition(":")[0], "cifar", 0)
    ratio = 64 // int(arch.partition("=")[2])
    for name, value in whole.state_dict().items():
        mine = encoder.state_dict()[name]
        assert [a // b for a, b in zip(value.shape, mine.shape) if a != b] == [ratio] * sum(
            a != b for a, b in zip(value.shape, mine.shape)
        )
    found = encoder(torch.randn(2, 3, 32, 32), tokens=True)
    assert encoder.width == channels and found.pooled.shape == (2, channels) and found.cls is None
    assert found.patches.shape == (2, 16, channels) and found.grid == (4, 4)
    torch.testing.assert_close(found.patches.mean(dim=1), found.pooled)
    last = encoder.layer1[-1]
    assert (last.bn3 if hasattr(last, "bn3") else last.bn2).weight.abs().max() == 0


def test_tokens_of_a_resnet_are_its_last_map_row_by_row() -> None:
    encoder = build_encoder("resnet18:width=4", "cifar", 0).eval()
    images, maps = torch.randn(2, 3, 24, 16), []
    encoder.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output))
    found = encoder(images, tokens=True)
    assert found.grid == (3, 2)
    assert torch.equal(found.patches[1, 3], maps[0][1, :, 1, 1])


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("resnet19", "arch 'resnet19': wanted one of resnet18, .*did you mean resnet18"),
        ("resnet18:depth=3", "depth=3 after resnet18; wanted width=NUMBER"),
        ("resnet18:width=0", "width 0; wanted a whole number from 1 to 8192"),
        ("resnet18:width=8,width=9", "width=9 after resnet18"),
        ("resnet18:", "nothing after resnet18"),
        ("resnet", "arch 'resnet': wanted one of resnet18"),
        ("vit", "arch 'vit': wanted one of resnet18"),
        ("vit_tiny_patch16_224:position=round", "position round; wanted learned or sincos"),
        ("vit_tiny_patch16_224:depth=100000", "depth 100000; wanted"),
        ("vgg16\x1b[31m", r"arch 'vgg16\\x1b"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line(arch: str, said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        architecture(arch)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_projections_have_unit_length() -> None:
    out = Projector(16, 8, seed=0)(torch.randn(5, 16))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


def rewrite(written: Path, folder: Path, change: object, **metadata: str) -> Path:
    """A copy with other tensors or metadata."""
    state = load_file(written)
    facts = {"arch": "resnet18", "stem": "imagenet", "size": "32", "mean": "[0,0,0]", "std": "[1,1,1]", **metadata}
    if callable(change):
        change(state, facts)
    path = folder / "encoder.safetensors"
    path.write_bytes(save(state, metadata=facts))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state, facts: state.pop("layer1.0.bn1.running_mean"),
            "1 tensors .*layer1.0.bn1.running_mean is missing",
        ),
        (lambda state, facts: state.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda state, facts: state.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}), "conv1.weight has shape"),
        (lambda state, facts: state["layer4.1.bn2.weight"][3].fill_(torch.nan), "layer4.1.bn2.weight is not finite"),
        (lambda state, facts: state.update({"bn1.bias": torch.zeros(64).int()}), "bn1.bias is of torch.int32"),
        (lambda state, facts: facts.pop("stem"), "metadata lack 'stem'"),
        (lambda state, facts: facts.update(arch="vit"), "arch 'vit': wanted one of resnet18"),
        (lambda state, facts: facts.update(stem="cifar"), "conv1.weight has shape"),
        (lambda state, facts: facts.update(size="big"), "not an encoder's safetensors"),
        (lambda state, facts: facts.update(mean=json.dumps([1, 2])), "not an encoder's safetensors"),
        (lambda state, facts: facts.update(mean="[" * 20_000), "its mean has 20,000 characters"),
        (lambda state, facts: facts.update(mean="3"), "not an encoder's safetensors"),
        (lambda state, facts: facts.update(mean='["nan", 1, 1]'), "mean .*wanted three numbers"),
        (lambda state, facts: facts.update(std="[1, Infinity, 1]"), "std .*wanted three numbers"),
        (lambda state, facts: facts.update(std="[1, 0, 1]"), "std .*wanted three numbers above 0"),
        (lambda state, facts: facts.update(size="8000"), "size 8000: wanted at least 1 pixel and at most 4096"),
        (lambda state, facts: facts.update(size="0"), "size 0: wanted at least 1 pixel"),
        (lambda state, facts: facts.update(size="1e3"), "not an encoder's safetensors"),
        (lambda state, facts: facts.update(arch="\x1b[2J"), r"arch '\\x1b\[2J': wanted one of resnet18"),
    ],
)
def test_what_does_not_fit_is_refused(written: Path, tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_encoder(rewrite(written, tmp_path, change))


def test_half_precision_is_read_as_float32(written: Path, tmp_path: Path) -> None:
    def halve(state: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
        state.update({name: tensor.half() for name, tensor in state.items() if tensor.is_floating_point()})

    module = load_encoder(rewrite(written, tmp_path, halve)).module
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32, torch.int64}
    assert module(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_missing_and_damaged_files_are_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such encoder"):
        load_encoder(tmp_path)
    path = tmp_path / "cut.safetensors"
    path.write_bytes(written.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_encoder(path)
