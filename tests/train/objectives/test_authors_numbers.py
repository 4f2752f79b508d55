"""Objectives against outputs of their authors' own code on seeded weights (tests/goldens/losses)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.train.objectives import Setup, build_objective
from genrep.train.objectives.base import unit
from genrep.train.objectives.heads import momentum_at
from genrep.train.objectives.mocov3 import MoCoV3, key_contrast
from genrep.train.objectives.simclr import nt_xent
from genrep.train.objectives.supcon import sup_con

GOLDENS = Path(__file__).parents[2] / "goldens/losses"


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(GOLDENS / f"{name}.pt", weights_only=True)
    return found


def close(found: Tensor | None, wanted: Tensor) -> None:
    """The tolerance of the goldens' README, with room for another order of summation."""
    assert found is not None
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found.detach(), wanted, atol=2e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("case", ["views2_t0.1", "views3_t0.07", "views6_t0.2", "all_one_group"])
def test_stablereps_loss(case: str) -> None:
    """Their rows are images in any order with a label each; ours are views of samples."""
    found = golden(f"stablerep_multipos/{case}")
    rows = found["in/feats"].clone().requires_grad_()
    value = sup_con(unit(rows)[None], found["in/labels"], found["in/temperature"])
    close(value, found["loss/loss"])
    value.backward()
    close(rows.grad, found["grad/feats"])
    labels = found["in/labels"]
    order = labels.argsort(stable=True).view(len(labels.unique()), -1).T  # (V, B): each sample's views
    if len(order.T) > 1:
        close(nt_xent(unit(found["in/feats"])[order], found["in/temperature"]), found["loss/loss"])


class Images(nn.Module):
    """The goldens' stub of a backbone."""

    def __init__(self, linear: nn.Module, *after: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), linear, *after)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.body(images)
        return found


def test_stablereps_projector_sees_each_view_by_itself() -> None:
    found = golden("stablerep_multipos/encoder_v3")
    views = torch.cat(found["in/img_cat"].split(3, dim=1))  # view by view
    linear = nn.Linear(12, 8)
    linear.load_state_dict({key: found[f"param/visual.lin.{key}"] for key in ("weight", "bias")})
    encoder = Images(linear)
    pooled = F.adaptive_avg_pool2d(views, 2)
    if pooled.flatten(1).shape[1] != 12:
        pytest.fail("another stub than its info says")
    setup = Setup(encoder=encoder, width=8, seed=0, num_views=3)
    objective = build_objective("multi-positive", setup, projector_width=10, projector_dim=6)
    objective.projector.load_state_dict(projector_state(found, objective.projector))
    biases = [found[f"param/image_mlp.layer{k}.bias"] for k in (1, 2)]
    assert len(biases) == 2  # which a batch norm that follows takes away again
    rows = torch.cat([objective.projector(part) for part in encoder(pooled).chunk(3)])
    close(rows, found["out/feats"])
    close(objective.projector[1].running_mean + 0, found["buf_after/image_mlp.bn1.running_mean"] - moved(biases[0]))
    embeddings = objective.loss(encoder, pooled, {}, 0).embeddings
    close(embeddings.flatten(0, 1), unit(found["out/feats"]))


def moved(bias: Tensor) -> Tensor:
    """The part of a running mean that is the bias before it, after three batches with momentum .1."""
    return bias * (1 - 0.9**3)


def projector_state(found: dict[str, Any], projector: nn.Module) -> dict[str, Tensor]:
    names = {
        "0.weight": "layer1.weight",
        "3.weight": "layer2.weight",
        "6.weight": "layer3.weight",
        "6.bias": "layer3.bias",
    }
    names |= {
        f"{3 * k + 1}.{key}": f"bn{k + 1}.{key}"
        for k in (0, 1)
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    state = {ours: found[f"param/image_mlp.{theirs}"] for ours, theirs in names.items()}
    return {**projector.state_dict(), **state}


@pytest.mark.parametrize("case", ["t0.2", "t1.0"])
def test_mocov3s_loss_of_one_direction(case: str) -> None:
    found = golden(f"mocov3_loss/{case}")
    queries = found["in/q"].clone().requires_grad_()
    value = key_contrast(queries, found["in/k"], float(case[1:]))
    close(value, found["loss/loss"])
    value.backward()
    close(queries.grad, found["grad/q"])


class Transformer(Images):
    """A stub that counts as a vision transformer."""

    takes_masks = True


def ours(name: str) -> str:
    """Our name of a parameter of theirs."""
    name = re.sub(r"^base_encoder\.body\.", "encoder.body.1.", name)
    name = re.sub(r"^momentum_encoder\.body\.", "objective.target.networks.0.body.1.", name)
    name = re.sub(r"^base_encoder\.(head|fc)\.", "objective.projector.", name)
    name = re.sub(r"^momentum_encoder\.(head|fc)\.", "objective.target.networks.1.", name)
    return re.sub(r"^predictor\.", "objective.predictor.", name)


@pytest.mark.parametrize(
    ("case", "stub", "temperature"), [("vit_3steps", Transformer, 0.2), ("resnet_2steps", Images, 1.0)]
)
def test_mocov3_for_some_steps(
    case: str, stub: type[Images], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads, gradients, the moving average and its place in the order of a step."""
    found = golden(f"mocov3_model/{case}")
    weight = found["param/base_encoder.body.weight"]
    encoder = stub(nn.Linear(*reversed(weight.shape)), nn.ReLU())
    width, dim = found["param/predictor.0.weight"].shape
    setup = Setup(encoder=encoder, width=len(weight), seed=0, total_steps=len(found["in/m"]))
    freeze = False if stub is Transformer else None
    objective = MoCoV3(setup, temperature=temperature, projector_width=width, projector_dim=dim, freeze_patches=freeze)
    whole = nn.ModuleDict({"encoder": encoder, "objective": objective})
    whole.load_state_dict({ours(key[6:]): value for key, value in found.items() if key.startswith("param/")})
    momenta = iter([*found["in/m"][1:], 0.0])  # theirs moves before a step what ours moves after the last one
    monkeypatch.setattr("genrep.train.objectives.mocov3.momentum_at", lambda *_: next(momenta))
    objective.target.follow(encoder, objective.projector, found["in/m"][0])
    for step in range(len(found["in/m"])):
        images = torch.cat([found[f"in/x{view}_{step}"] for view in (1, 2)])
        whole.zero_grad()
        value = objective.loss(encoder, images, {}, step).loss
        close(value, found[f"loss/loss_{step}"])
        value.backward()
        parameters = dict(whole.named_parameters())
        for key, wanted in found.items():
            if key.startswith(f"grad/step{step}/"):
                close(parameters[ours(key.split("/", 2)[2])].grad, wanted)
        before = {key: value.clone() for key, value in whole.state_dict().items()}
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.requires_grad:
                    parameter -= 0.3 * parameter.grad
        objective.after_step(encoder, step, 3)
    for key, wanted in found.items():
        if key.startswith("out/final/momentum_encoder") and wanted.is_floating_point():
            close(before[ours(key[10:])], wanted)


def test_mocov3s_momentum_rises_to_one() -> None:
    found = golden("mocov3_model/schedules_ep10")
    steps = [round(float(epoch) * 4) for epoch in found["in/epoch_float"]]
    base = float(found["out/momentum"][0])
    mine = torch.tensor([momentum_at(step, 40, base, "cosine") for step in steps], dtype=torch.float64)
    torch.testing.assert_close(mine, found["out/momentum"].double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", ["mocov3_gamma1", "mocov3_gamma3_dot", "mocov3_unweighted"])
def test_genviews_quality_driven_loss(case: str) -> None:
    """Weights as ``--weight-field`` has them: score / Σ score · B."""
    found = golden(f"genview_quality/{case}")
    rows = [found[f"in/feat_{view}"].clone().requires_grad_() for view in (1, 2)]
    keys = [found[f"in/momentum_feat_{view}"] for view in (1, 2)]
    predictor = nn.Linear(*reversed(found["param/predictor/l.weight"].shape))
    predictor.load_state_dict({key: found[f"param/predictor/l.{key}"] for key in ("weight", "bias")})
    weights = None
    if "out/score" in found:
        weights = found["out/score"] / found["out/score"].sum() * len(rows[0])
        close(weights, found["out/loss_weight"])
    value = sum(key_contrast(predictor(rows[a]), keys[1 - a], 0.2, weights) for a in (0, 1))
    assert isinstance(value, Tensor)
    close(value, found["loss/loss"])
    value.backward()
    for view in (0, 1):
        close(rows[view].grad, found[f"grad/feat_{view + 1}"])
    close(predictor.weight.grad, found["grad/predictor/l.weight"])
