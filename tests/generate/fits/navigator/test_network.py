"""T: its initialisation, its constraint, and the file that it is kept in."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from genrep.errors import WeightsError
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views.navigators import Walk, WalkFacts, load_walk, new_walk, save_walk

LATENT = LatentSpec(dim=12, chunks=(4, 4, 4), law="truncated_normal", truncation=2.0)


def latents(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_the_default_start_is_cop_gens():
    walk = new_walk(120, walk="mlp", seed=0)
    assert sum(p.numel() for p in walk.parameters()) == 29_040
    z = torch.from_numpy(LatentSpec(dim=120, law="truncated_normal", truncation=2.0).sample(0, np.arange(4000)))
    assert 0.19 < float(walk(z).detach().std()) < 0.23  # .208-.213 in the papers' code
    assert float(walk.layers[0].weight.detach().abs().max()) <= 120**-0.5


def test_the_small_start_is_hls():
    walk = new_walk(100, walk="mlp", init="small", seed=0)
    weights = torch.cat([layer.weight.flatten() for layer in walk.layers])
    biases = torch.cat([layer.bias for layer in walk.layers])
    assert float(weights.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert 0.0009 < float(biases.detach().abs().max()) <= 0.001
    assert float(walk(latents(64, 100)).detach().abs().max()) < 0.1


def test_a_start_is_a_function_of_the_seed_and_leaves_the_callers_stream_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first = new_walk(6, walk="mlp", seed=1)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(first.layers[1].weight, new_walk(6, walk="mlp", seed=1).layers[1].weight)
    assert not torch.equal(first.layers[1].weight, new_walk(6, walk="mlp", seed=2).layers[1].weight)


def test_the_hidden_layer_is_narrower_by_the_reduction_and_linear_walks_have_no_relu():
    walk = new_walk(12, walk="linear", reduction=5, seed=0)
    assert [tuple(layer.weight.shape) for layer in walk.layers] == [(2, 12), (12, 2)]
    z = latents(2, 12)
    first, second = walk.layers
    wanted = (z @ first.weight.T + first.bias) @ second.weight.T + second.bias
    assert torch.allclose(walk(z), wanted, atol=1e-6)
    assert not torch.allclose(new_walk(12, walk="mlp", reduction=5, seed=0)(z), wanted, atol=1e-3)


@pytest.mark.parametrize("distance", [0.01, 1.0, 50.0, 1000.0])
def test_the_constraint_is_never_exceeded_and_only_scales(distance):
    free, bound = (new_walk(12, walk="mlp", seed=0, max_distance=limit) for limit in (None, distance))
    with torch.no_grad():
        for walk in (free, bound):
            walk.layers[1].weight.mul_(20)
    z = latents(500, 12) * 3
    shift, projected = free(z), bound(z)
    norms = shift.norm(dim=1)
    assert float(projected.detach().double().norm(dim=1).max()) <= distance
    wanted = shift * torch.minimum(torch.ones(500), distance / norms)[:, None]
    assert torch.allclose(projected, wanted, rtol=1e-5)
    if distance == 50.0:
        assert (norms > distance).any() and (norms < distance).any()


def test_the_projection_has_a_gradient_even_at_zero():
    walk = Walk((4, 4), activation="none", max_distance=1.0)
    z = latents(3, 4).requires_grad_()
    with torch.no_grad():
        for parameter in walk.parameters():
            parameter.zero_()
    walk(z)[:, 0].sum().backward()
    assert torch.allclose(walk.layers[0].bias.grad, torch.tensor([3.0, 0, 0, 0]))
    walk.zero_grad()
    with torch.no_grad():
        walk.layers[0].bias.copy_(torch.tensor([3.0, 4.0, 0, 0]))  # beyond the ball: only the direction can change
    walk(z)[:, 0].sum().backward()
    step = 1e-3
    moved = (torch.tensor([3.0 + step, 4.0]) / torch.tensor([3.0 + step, 4.0]).norm())[0]
    back = (torch.tensor([3.0 - step, 4.0]) / torch.tensor([3.0 - step, 4.0]).norm())[0]
    assert float(walk.layers[0].bias.grad[0]) == pytest.approx(3 * float(moved - back) / (2 * step), rel=1e-3)


def test_a_file_gives_back_the_walk_and_says_what_it_is(tmp_path):
    walk = new_walk(8, walk="mlp", seed=0, max_distance=0.3)
    facts = WalkFacts(chunks="1-2", latent=LATENT, gen="bigbigan", samples=1000, loss_f=1.25)
    save_walk(tmp_path / "navigator.safetensors", walk, facts)
    loaded = load_walk(tmp_path)
    assert loaded.facts == facts
    z = latents(5, 8)
    assert torch.equal(loaded.walk(z), walk(z))
    with safe_open(tmp_path / "navigator.safetensors", framework="pt") as file:
        metadata, keys = file.metadata(), sorted(file.keys())
    assert keys == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]
    wanted = {"genrep": "navigator/1", "activation": "relu", "chunks": "1-2", "layers": "", "dim": "8"}
    assert wanted.items() <= metadata.items()
    assert metadata["max_distance"] == "0.3"
    assert json.loads(metadata["latent"])["chunks"] == [4, 4, 4]


GOOD = {"genrep": "navigator/1", "activation": "relu", "chunks": "", "layers": "", "dim": "4", "max_distance": ""}


@pytest.mark.parametrize(
    ("metadata", "shapes", "line"),
    [
        ({"genrep": "generator/1"}, {}, r"genrep = 'generator/1', wanted 'navigator/1'"),
        ({"activation": "tanh"}, {}, r"activation 'tanh', wanted one of relu, none"),
        ({"dim": "5"}, {}, r"dim '5', but its layers take 4 values"),
        ({"max_distance": "far"}, {}, r"max_distance 'far', wanted a positive number"),
        ({"chunks": "1:5"}, {}, r"its metadata cannot be read \(chunks '1:5'"),
        ({"latent": "[1]"}, {}, r"its metadata cannot be read"),
        ({"latent": '{"shape":[4],"chunks":[4],"law":"cauchy","truncation":null,"scale":1}'}, {}, r"law 'cauchy'"),
        ({}, {"layers.1.weight": (3, 4)}, r"do not lead from F values to F values"),
        ({}, {"layers.1.bias": (3,)}, r"do not lead from F values to F values"),
        ({}, {"layers.2.weight": (4, 4)}, r"tensor layers\.2\.bias is missing or unknown"),
        ({}, {"layers.0.weight": (4, 4, 1)}, r"wanted \(out, in\)"),
        ({}, {"other": (1,)}, r"tensor other is missing or unknown"),
    ],
)
def test_a_file_that_is_no_navigator_is_refused_in_one_line(tmp_path, metadata, shapes, line):
    good = {"layers.0.weight": (4, 4), "layers.0.bias": (4,), "layers.1.weight": (4, 4), "layers.1.bias": (4,)}
    tensors = {name: torch.zeros(shape) for name, shape in {**good, **shapes}.items()}
    path = tmp_path / "walk.safetensors"
    save_file(tensors, path, metadata={**GOOD, **metadata})
    with pytest.raises(WeightsError, match=line):
        load_walk(path)


def test_missing_damaged_or_infinite_files_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no such navigator"):
        load_walk(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(WeightsError, match=r"not a readable safetensors file"):
        load_walk(tmp_path / "text.safetensors")
    walk = new_walk(4, walk="mlp", seed=0)
    with torch.no_grad():
        walk.layers[0].bias[1] = float("nan")
    save_walk(tmp_path / "nan.safetensors", walk, WalkFacts())
    with pytest.raises(WeightsError, match=r"layers\.0\.bias holds NaN or infinity"):
        load_walk(tmp_path / "nan.safetensors")
