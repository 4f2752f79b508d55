"""What the trainer relies on, for every objective."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.train.objectives import OBJECTIVES, Setup, Step, build_objective, option_names
from genrep.train.objectives.pairs import measures

MakeSetup = Callable[..., Setup]
EncoderOf = Callable[[str], nn.Module]
HEADS = {"projector_width": 24, "projector_dim": 8}
# A centre that begins at 0 and moves by a tenth needs more steps than a test.
PROTOTYPES = {"prototypes": 32, "head_width": 24, "bottleneck": 8, "centring": "sinkhorn"}
SMALL: dict[str, dict[str, Any]] = {
    **{"nnclr": {"queue_size": 16}, "negative-feature-transform": {"queue_size": 16}},
    **{"multi-positive": HEADS, "mocov3": HEADS, "lejepa": HEADS},
    **{"dino": PROTOTYPES, "ibot": PROTOTYPES, "synclr": {**HEADS, **PROTOTYPES}},
}


def make(name: str, setup: MakeSetup, encoder: nn.Module | None = None, **options: Any) -> Any:
    given = setup() if encoder is None else setup(encoder=encoder)
    return build_objective(name, given, **{**SMALL.get(name, {}), **options})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_a_fixed_batch(
    setup: MakeSetup, images: Any, batch: Any, encoder_of: EncoderOf, name: str
) -> None:
    encoder = encoder_of(name)
    objective = make(name, setup, encoder)
    step = Step(encoder, objective)
    optimiser = torch.optim.SGD(objective.parameter_groups(encoder, weight_decay=0.0), lr=0.05, momentum=0.9)
    pictures, fields = images(objective.num_views, 6), batch(6)
    given = {field: fields[field] for field in objective.fields}
    values = []
    for i in range(30):
        output = step(pictures, given, i)
        assert output.loss.shape == () and output.loss.dtype == torch.float32
        assert not output.embeddings.requires_grad
        assert output.embeddings.shape[:2] == (objective.num_views, 6)
        torch.testing.assert_close(output.embeddings.norm(dim=2), torch.ones(objective.num_views, 6))
        assert all(not value.requires_grad and value.shape == () for value in output.metrics.values())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        objective.after_step(encoder, i, 30)
        values.append(float(output.loss.detach()))
    assert sum(values[-3:]) < sum(values[:3])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_trained_parameter_has_a_gradient_and_one_group(
    setup: MakeSetup, images: Any, batch: Any, encoder_of: EncoderOf, name: str
) -> None:
    """DistributedDataParallel waits for ever for a parameter without a gradient."""
    options = {"class_head": True} if name in ("inverter", "autoencoder") else {}
    encoder = encoder_of(name)
    objective = make(name, setup, encoder, **options)
    step = Step(encoder, objective)
    step(images(objective.num_views, 5), batch(5), 0).loss.backward()
    trained = {parameter for parameter in step.parameters() if parameter.requires_grad}
    assert all(parameter.grad is not None for parameter in trained)
    for exclude in (False, True):
        groups = objective.parameter_groups(encoder, weight_decay=0.1, exclude_vectors=exclude)
        listed = [parameter for group in groups for parameter in group["params"]]
        assert len(listed) == len(trained) and set(listed) == trained
        for group in groups:
            assert group["adapt"] == (group["weight_decay"] > 0)
            assert all((parameter.ndim < 2) != group["adapt"] for parameter in group["params"]) or not exclude


def test_only_simsiams_predictor_keeps_its_rate(setup: MakeSetup, encoder_of: EncoderOf) -> None:
    for name in OBJECTIVES:
        encoder = encoder_of(name)
        objective = make(name, setup, encoder)
        fixed = [
            parameter
            for group in objective.parameter_groups(encoder, weight_decay=0.1)
            if group["fixed_lr"]
            for parameter in group["params"]
        ]
        assert fixed == (list(objective.predictor.parameters()) if name == "simsiam" else [])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_autocast_changes_the_networks_but_not_the_loss(
    setup: MakeSetup, images: Any, batch: Any, encoder_of: EncoderOf, name: str
) -> None:
    encoder = encoder_of(name)
    objective = make(name, setup, encoder)
    pictures, fields = images(objective.num_views, 6), batch(6)
    plain = objective.loss(encoder, pictures, fields, 0).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = objective.loss(encoder, pictures, fields, 0).loss
    assert mixed.dtype == torch.float32
    assert float(mixed.detach()) == pytest.approx(float(plain.detach()), rel=0.05, abs=0.02)
    mixed.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_heads_depend_on_the_seed_alone(setup: MakeSetup, encoder_of: EncoderOf, name: str) -> None:
    encoder, state = encoder_of(name), torch.random.get_rng_state()
    first = make(name, setup, encoder).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(99)
    second = make(name, setup, encoder).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.random.set_rng_state(state)


def test_the_base_temperature_multiplies_the_loss(setup: MakeSetup, images: Any, tiny_encoder: nn.Module) -> None:
    pictures = images(2, 4)
    plain = make("simclr", setup).loss(tiny_encoder, pictures, {}, 0)
    scaled = make("simclr", setup, base_temperature=0.07).loss(tiny_encoder, pictures, {}, 0)
    assert plain.metrics == {}
    torch.testing.assert_close(scaled.loss, plain.loss / 0.7)
    torch.testing.assert_close(scaled.metrics["unscaled_loss"], plain.loss.detach())


def test_sizes_are_the_papers_for_resnet50(setup: MakeSetup) -> None:
    def shapes(module: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, nn.Linear)]

    wide = lambda: setup(width=2048)  # noqa: E731
    simsiam = build_objective("simsiam", wide())
    assert shapes(simsiam.projector) == [(2048, 2048)] * 3
    assert shapes(simsiam.predictor) == [(512, 2048), (2048, 512)]
    last = list(simsiam.projector)[-1]
    assert isinstance(last, nn.BatchNorm1d) and not last.affine
    byol = build_objective("byol", wide())
    assert shapes(byol.projector) == [(8192, 2048), (2048, 8192)]
    assert shapes(byol.predictor) == [(512, 2048), (2048, 512)]
    nnclr = build_objective("nnclr", wide(), queue_size=1)
    assert shapes(nnclr.projector) == [(2048, 2048), (2048, 2048), (256, 2048)]
    assert shapes(nnclr.predictor) == [(4096, 256), (256, 4096)]
    assert shapes(build_objective("simclr", wide())) == [(2048, 2048), (128, 2048)]


@pytest.mark.parametrize(
    "name",
    ["simclr", "dcl", "dclw", "supcon", "multi-positive", "mocov3", "simsiam", "byol", "nnclr", "dino", "lejepa"],
)
def test_one_view_is_no_pair(setup: MakeSetup, name: str) -> None:
    with pytest.raises(TrainingError, match=f"^objective {name}: 1 view of each sample; wanted at least 2") as caught:
        build_objective(name, setup(num_views=1))
    assert caught.value.in_shell().startswith(f"--objective {name}: 1 view")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("moco", {}, "--objective 'moco': wanted one of simclr, dcl"),
        ("simsiam", {"temperature": 0.1}, "--objective simsiam: has no option 'temperature'; it has none"),
        ("dclw", {"sigma": 1}, "it has temperature, base_temperature, weight_sigma"),
        ("simclr", {"temperature": 0.0}, "--temperature 0.0: wanted a positive number"),
        ("simclr", {"temperature": float("nan")}, "--temperature nan"),
        ("simclr", {"base_temperature": -1.0}, "--base-temperature -1.0"),
        ("byol", {"target_momentum": 1.5}, "--target-momentum 1.5: wanted 0 to 1"),
        ("byol", {"target_schedule": "linear"}, "--target-schedule 'linear': wanted one of constant, cosine"),
        ("mocov3", {"target_schedule": "linear"}, "--target-schedule 'linear': wanted one of constant, cosine"),
        ("dino", {"target_momentum": 1.5}, "--target-momentum 1.5: wanted 0 to 1"),
        ("dino", {"centring": "mean"}, "--centring 'mean': wanted one of centre, sinkhorn"),
        ("dino", {"centre_momentum": 1.0}, "--centre-momentum 1.0: wanted at least 0 and less than 1"),
        (
            "dino",
            {"teacher_warmup_epochs": 1.5},
            "--teacher-warmup-epochs 1.5: --objective dino has one temperature for each",
        ),
        ("dino", {"student_temperature": 0.0}, "--student-temperature 0.0: wanted a positive number"),
        ("dino", {"teacher_temperature_start": -1.0}, "--teacher-temperature-start -1.0: wanted a positive number"),
        (
            "dino",
            {"mask_ratio": (0.1, 0.5)},
            "--objective dino: has no option 'mask_ratio'; it has student_temperature",
        ),
        (
            "ibot",
            {},
            "--objective ibot: requires a vision transformer, whose patches it masks; wanted an --arch such as",
        ),
        ("synclr", {}, "--objective synclr: requires a vision transformer"),
        (
            "ibot",
            {"mask_ratio": (0.5, 0.1)},
            "--mask-ratio 0.5,0.1: wanted two parts of the patches, 0 < LOW <= HIGH < 1",
        ),
        ("ibot", {"mask_shape": "circle"}, "--mask-shape 'circle': wanted one of block, random"),
        ("ibot", {"mask_probability": 0.0}, "--mask-probability 0.0: wanted more than 0, at most 1"),
        ("nnclr", {"queue_size": 0}, "--queue-size 0: wanted at least 1"),
        ("autoencoder", {"pixel_weight": -1.0}, "--pixel-weight -1.0"),
    ],
)
def test_wrong_options_are_one_line(setup: MakeSetup, name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError) as caught:
        build_objective(name, setup(), **options)
    assert says in caught.value.in_shell() and "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_option_names_are_the_constructors() -> None:
    assert option_names("byol") == ("target_momentum", "target_schedule")
    assert option_names("classifier") == ()


def test_names_cost_no_torch() -> None:
    code = "import sys; from genrep.train.objectives import OBJECTIVES; from genrep.train.presets import preset;"
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def measured(embeddings: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in measures(embeddings).items()}


def test_measures_of_spread_collapsed_and_single_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = nn.functional.normalize(torch.randn(1, 512, 64, generator=generator), dim=2)
    found = measured(torch.cat([spread, spread]))
    assert found["embedding_std"] == pytest.approx(1, abs=0.05)
    assert found["alignment"] == pytest.approx(0, abs=1e-5)
    rows = spread[0].double()
    pairs = [(i, j) for i in range(0, 512, 8) for j in range(512) if i != j]
    loop = sum(float(torch.exp(-2 * (rows[i] - rows[j]).square().sum())) for i, j in pairs[:4000]) / 4000
    assert found["uniformity"] == pytest.approx(torch.tensor(loop).log().item(), abs=0.05)
    same = measured(torch.ones(2, 4, 16) / 4)
    assert (same["embedding_std"], same["uniformity"]) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert measured(-spread[:, :1].expand(1, 1, 64)).keys() == {"embedding_std"}


def test_alignment_is_the_squared_distance_of_views() -> None:
    views = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    assert measured(views)["alignment"] == pytest.approx((2 + 2 + 4) / 3)
