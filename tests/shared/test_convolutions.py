"""Convolutions in bfloat16 on a CPU: as float32, for every geometry that our networks have."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from genrep.encoders.networks import Conv2d, guard_convolutions


@pytest.mark.slow
def test_every_convolution_of_our_networks_is_right_with_perturbed_memory():
    script = Path(__file__).with_name("every_convolution.py")
    # glibc fills fresh memory with bytes that are 1.5e16 as bfloat16: what is left uninitialised shows.
    settings = {"MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    *wrong, tried = done.stdout.splitlines()
    assert not wrong
    assert int(tried.removeprefix("tried ")) > 150


@pytest.fixture
def computed(monkeypatch):
    """The types that convolutions were computed in."""
    types = []
    whole = nn.Conv2d._conv_forward

    def spy(self, x, weight, bias):
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        types.append(low)
        return whole(self, x, weight, bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", spy)
    return types


@pytest.mark.parametrize(
    ("stride", "kernel", "shape", "narrow"),
    [
        (2, 3, (1, 1), True),  # the weight gradient's taps beside the middle are never written
        (2, 3, (5, 1), True),
        (3, 3, (4, 2), True),
        (4, 4, (32, 32), True),  # a patch embedding of 16 channels
        (3, 3, (33, 33), True),
        (2, 3, (1, 5), False),  # a low map is right, a narrow one is not
        (2, 3, (2, 2), False),
        (2, 3, (17, 2), True),  # an output of 9x1 comes out wrong
        (2, 3, (17, 3), False),
        (1, 3, (1, 1), False),
        (2, 1, (1, 1), False),
    ],
)
@pytest.mark.parametrize("autocast", [True, False])
def test_only_what_comes_out_wrong_is_computed_in_float32(computed, stride, kernel, shape, narrow, autocast):
    layer = guard_convolutions(nn.Sequential(nn.Conv2d(16, 8, kernel, stride, padding=kernel // 2)))
    x = torch.randn(2, 16, *shape)
    wanted = nn.functional.conv2d(x, layer[0].weight, layer[0].bias, stride, kernel // 2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = layer(x) if autocast else layer.bfloat16()(x.bfloat16())
    assert computed == [torch.float32 if narrow else torch.bfloat16]
    assert value.dtype == torch.bfloat16
    torch.testing.assert_close(value.float(), wanted, atol=0.05, rtol=0.05)


def test_guarded_layers_keep_parameters_names_and_copies_apart():
    layer = nn.Conv2d(3, 4, 3)
    module = nn.Sequential(layer, nn.ReLU())
    before = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    assert guard_convolutions(module) is module
    assert type(module[0]) is Conv2d
    assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == before
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[0].weight.zero_()
        other[0].bias.zero_()
    assert other(torch.ones(1, 3, 3, 3)).abs().max() == 0
    assert module(torch.ones(1, 3, 3, 3)).abs().max() > 0
