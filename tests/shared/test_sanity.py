"""Numbers that no training leaves: found in weights, statistics and gradients, and named."""

from pathlib import Path

import pytest
import torch
from torch import nn

from genrep.encoders import EncoderFacts, build_encoder, save_encoder
from genrep.errors import TrainingError, WeightsError, phrase
from genrep.evaluate.settings import EncoderChoice, open_encoder
from genrep.runs.sanity import LARGEST_GRADIENT, absurdity, check_training, gradients

FACTS = EncoderFacts(arch="resnet18", stem="imagenet", size=32, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e16, -2e5])
def test_one_absurd_value_among_many_is_named(value):
    state = {
        "a.weight": torch.ones(3, 4),
        "b.weight": torch.ones(1000),
        "steps": torch.tensor(10**9),
        "no": torch.ones(0),
    }
    assert absurdity(state) is None
    state["b.weight"][500] = value
    assert absurdity(state) == f"a value of b.weight is {value:.3g}"


def test_variances_may_be_large_and_are_never_below_zero():
    assert absurdity({"bn.running_var": torch.tensor([1e8, 0.0])}) is None
    assert absurdity({"bn.running_mean": torch.tensor([1e8, 0.0])}) == "a value of bn.running_mean is 1e+08"
    assert absurdity({"bn.running_var": torch.tensor([1.0, 1e16])}) == "a value of bn.running_var is 1e+16"
    assert (
        absurdity({"bn.running_var": torch.tensor([1.0, -0.5])})
        == "a value of bn.running_var is -0.5, a variance below 0"
    )


def test_a_training_that_diverged_ends_in_one_line_with_run_step_and_way():
    layer = nn.Linear(2, 1)
    layer(torch.tensor([[1.0, 1e12]])).sum().backward()
    with pytest.raises(TrainingError) as caught:
        check_training(
            Path("runs/x"), 1200, gradients([layer]), way=phrase("try a lower {lr}"), largest=LARGEST_GRADIENT
        )
    assert str(caught.value) == (
        "out runs/x: at step 1,200 a value of the gradient of weight is 1e+12: this training has diverged; "
        "try a lower lr, in a new out; what it wrote before is kept"
    )
    check_training(Path("runs/x"), 1200, layer.state_dict(), way="")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("layer4.0.conv1.weight", 1e16, "a value of layer4.0.conv1.weight is 1e+16; wanted a trained encoder"),
        ("layer2.1.bn1.running_var", -1.0, "a value of layer2.1.bn1.running_var is -1, a variance below 0; wanted"),
        ("bn1.running_var", 1e30, "a value of bn1.running_var is 1e+30; wanted"),
    ],
)
def test_an_absurd_encoder_is_not_measured(tmp_path, name, value, said):
    encoder = build_encoder("resnet18", "imagenet", 0)
    encoder.state_dict()[name].flatten()[3] = value
    save_encoder(tmp_path / "encoder.safetensors", encoder, FACTS)
    with pytest.raises(WeightsError, match=r"encoder\.safetensors: ") as caught:
        open_encoder(EncoderChoice(encoder=tmp_path))
    assert said in str(caught.value)


def test_one_encoder_has_the_same_bytes_every_time(tmp_path):
    encoder = build_encoder("resnet18", "cifar", 0)
    for number in range(4):
        save_encoder(tmp_path / f"{number}.safetensors", encoder, FACTS)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
