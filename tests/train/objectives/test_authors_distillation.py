"""Self-distillation against outputs of its authors' own code on seeded weights (tests/goldens/losses)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.encoders.networks import Features
from genrep.train.engine.optimiser import clip_gradients, half_cosine
from genrep.train.objectives import Setup, build_objective
from genrep.train.objectives.base import LOCAL_CROPS, unit
from genrep.train.objectives.dino import between_crops
from genrep.train.objectives.distillation import (
    Centre,
    PrototypeHead,
    distilled,
    sinkhorn,
    teacher_temperature_at,
)
from genrep.train.objectives.heads import momentum_at
from genrep.train.objectives.ibot import masked_rows, of_masked_patches
from genrep.train.objectives.synclr import NormedMLP, momentum_sup_con

GOLDENS = Path(__file__).parents[2] / "goldens/losses"


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(GOLDENS / f"{name}.pt", weights_only=True)
    return found


def close(found: Tensor | None, wanted: Tensor, atol: float = 2e-5) -> None:
    """The tolerance of the goldens' README, with room for another order of summation."""
    assert found is not None
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found.detach(), wanted.to(found.dtype), atol=atol * scale, rtol=1e-5)


def ours(name: str) -> str:
    """Our name of a head's parameter of theirs."""
    for theirs, mine in (("weight_g", "weight.original0"), ("weight_v", "weight.original1")):
        name = name.replace(f"last_layer.{theirs}", f"prototypes.parametrizations.{mine}")
    return name


def head_of(parameters: dict[str, Tensor], layers: int, fixed: bool = True) -> PrototypeHead:
    hidden, width = parameters["mlp.0.weight"].shape
    prototypes, bottleneck = parameters["last_layer.weight_v"].shape
    head = PrototypeHead(
        width, layers=layers, hidden=hidden, bottleneck=bottleneck, prototypes=prototypes, fixed_lengths=fixed
    )
    head.load_state_dict({ours(key): value for key, value in parameters.items() if "last_layer2" not in key})
    return head


def part(found: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)}


@pytest.mark.parametrize(
    ("case", "fixed"), [("dino_head/norm_last_3layer", True), ("synclr_heads/dinohead_3layer", False)]
)
def test_prototype_heads(case: str, fixed: bool) -> None:
    found = golden(case)
    head = head_of(part(found, "param/"), 3, fixed)
    x = found["in/x"].clone().requires_grad_()
    scores = head(x)
    close(scores, found["out/y_0"])
    (scores * found["in/cotangent_0"]).sum().backward()
    close(x.grad, found["grad_in/x"])
    parameters, gradients = dict(head.named_parameters()), part(found, "grad/")
    for key, wanted in gradients.items():
        close(parameters[ours(key)].grad, wanted)
    lengths = parameters[ours("last_layer.weight_g")]
    assert lengths.requires_grad is not fixed and ("last_layer.weight_g" in gradients) is not fixed


def test_ibots_head_serves_class_and_patches() -> None:
    found = golden("ibot_head/shared")
    head = head_of(part(found, "param/"), 3)
    x = found["in/x"].clone().requires_grad_()
    scores = head(x)
    close(scores[:, 0], found["out/y_0"])
    close(scores[:, 1:], found["out/y_1"])
    ((scores[:, 0] * found["in/cotangent_0"]).sum() + (scores[:, 1:] * found["in/cotangent_1"]).sum()).backward()
    close(x.grad, found["grad_in/x"])


@pytest.mark.parametrize("case", ["mlphead_ln_proj3", "mlphead_ln_pred2"])
def test_synclrs_projector_and_predictor(case: str) -> None:
    found = golden(f"synclr_heads/{case}")
    weights = [value for key, value in found.items() if key.startswith("param/") and value.ndim == 2]
    head = NormedMLP(weights[0].shape[1], *[len(weight) for weight in weights])
    head.load_state_dict(part(found, "param/mlp."))
    x = found["in/x"].clone().requires_grad_()
    rows = head(x)
    close(rows, found["out/y_0"])
    (rows * found["in/cotangent_0"]).sum().backward()
    close(x.grad, found["grad_in/x"])


@pytest.mark.parametrize(
    ("case", "first", "last", "warmup", "epochs"),
    [("crops2_4steps", 0.04, 0.07, 4, 8), ("crops6_3steps", 0.02, 0.06, 3, 5)],
)
def test_dinos_loss_and_centre(case: str, first: float, last: float, warmup: int, epochs: int) -> None:
    found = golden(f"dino_loss/{case}")
    course = [teacher_temperature_at(epoch, first, last, warmup, by_epoch=True) for epoch in range(epochs)]
    assert course == pytest.approx(found["out/teacher_temp_schedule"], abs=1e-9)
    centre = Centre(found["in/teacher_0"].shape[1], 0.9)
    for step, epoch in enumerate(found["in/epochs"]):
        student = found[f"in/student_{step}"].clone().requires_grad_()
        teacher = found[f"in/teacher_{step}"]
        close(centre.mean, found[f"buf/center_before_{step}"][0])
        targets = centre.around(teacher, course[epoch]).unflatten(0, (2, -1))
        value = between_crops(student.unflatten(0, (-1, targets.shape[1])), targets, 0.1)
        close(value, found[f"loss/loss_{step}"])
        value.backward()
        close(student.grad, found[f"grad/student_{step}"])
        centre.push(teacher)
        centre.advance()
        close(centre.mean, found[f"buf/center_after_{step}"][0])


@pytest.mark.parametrize("case", ["ep10x5_warm2", "ep6x7_nowarm"])
def test_dinos_schedules(case: str) -> None:
    found = golden(f"dino_schedules/{case}")
    start, end, base = {"ep10x5_warm2": (0.04, 0.4, 0.996), "ep6x7_nowarm": (0.05, 0.05, 0.99)}[case]
    decay, momentum = (found[f"out/{name}_per_iteration"].tolist() for name in ("weight_decay", "momentum"))
    steps = len(decay)
    assert [half_cosine(start, end, k / steps) for k in range(steps)] == pytest.approx(decay, abs=1e-9)
    assert [momentum_at(k, steps, base, "cosine") for k in range(steps)] == pytest.approx(momentum, abs=1e-9)


class Pooled(nn.Module):
    """The goldens' stub of a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.lin(F.adaptive_avg_pool2d(images, 2).flatten(1))
        return found


def test_dino_for_three_epochs_of_two_steps() -> None:
    """Crops, head, centre, per-tensor clipping, prototypes frozen for an epoch, moving average: their whole loop."""
    found = golden("dino_train_loop/loop_local2_clip")
    encoder = Pooled()
    setup = Setup(encoder=encoder, width=10, seed=0, local_views=1, steps_per_epoch=2, total_steps=6)
    objective: Any = build_objective(
        "dino",
        setup,
        **{"prototypes": 14, "head_width": 12, "bottleneck": 6, "target_momentum": 0.9},
        **{"teacher_temperature_start": 0.04, "teacher_temperature": 0.07, "teacher_warmup_epochs": 2},
    )
    begin = part(found, "param/student_and_teacher_init/")
    encoder.load_state_dict(part(begin, "backbone."))
    for network in (objective.head, objective.target.networks[1]):
        network.load_state_dict({ours(key): value for key, value in part(begin, "head.").items()})
    objective.target.networks[0].load_state_dict(part(begin, "backbone."))
    groups = objective.parameter_groups(encoder, weight_decay=0.04, exclude_vectors=True)
    optimiser = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
    rates = [0.0, 0.5, *(half_cosine(0.5, 0.01, k / 4) for k in range(4))]
    parameters = [*encoder.parameters(), *objective.head.parameters()]
    for step, rate in enumerate(rates):
        crops = [found[f"in/images/it{step % 2}/crop{k}"] for k in range(4)]
        for group in optimiser.param_groups:
            group["lr"] = rate
            group["weight_decay"] = half_cosine(0.04, 0.4, step / 6) if group["adapt"] else 0.0
        output = objective.loss(encoder, torch.cat(crops[:2]), {LOCAL_CROPS: torch.cat(crops[2:])}, step)
        assert float(output.loss.detach()) == pytest.approx(float(found["loss/per_iteration"][step]), abs=2e-5)
        optimiser.zero_grad()
        output.loss.backward()
        clip_gradients(parameters, 0.3, each=True)
        objective.after_backward(encoder, step)
        optimiser.step()
        objective.after_step(encoder, step, 6)
        if step % 2:
            epoch = step // 2
            close(objective.centre.mean, found[f"buf/center_after_epoch{epoch}"][0])
            for name, networks in (
                ("student", (encoder, objective.head)),
                ("teacher", tuple(objective.target.networks)),
            ):
                state = part(found, f"out/{name}_after_epoch{epoch}/")
                for key, value in part(state, "backbone.").items():
                    close(networks[0].state_dict()[key], value)
                for key, value in part(state, "head.").items():
                    close(networks[1].state_dict()[ours(key)], value)


@pytest.mark.parametrize(
    ("case", "weights", "courses"),
    [
        ("global2_local2", (1.0, 1.0), ((0.04, 0.07, 3), (0.04, 0.07, 3))),
        # Patches' temperature waits for two epochs, in their ``mim_start_epoch``.
        ("global2_nolocal_mimstart", (1.0, 0.5), ((0.04, 0.06, 3), (0.05, 0.07, 3))),
    ],
)
def test_ibots_loss_and_centres(case: str, weights: tuple[float, float], courses: tuple[Any, Any]) -> None:
    found = golden(f"ibot_loss/{case}")
    waits = 2 if case.endswith("mimstart") else 0
    centres = Centre(found["in/teacher_cls_0"].shape[1], 0.9), Centre(found["in/teacher_patch_0"].shape[2], 0.9)
    for step, epoch in enumerate(found["in/epochs"]):
        names = [name for name in ("cls", "patch", "local_cls") if f"in/student_{name}_{step}" in found]
        student = {name: found[f"in/student_{name}_{step}"].clone().requires_grad_() for name in names}
        teacher = {name: found[f"in/teacher_{name}_{step}"] for name in ("cls", "patch")}
        mask = found[f"in/masks_{step}"].flatten(0, 1).flatten(1)
        first = teacher_temperature_at(epoch, *courses[0], by_epoch=True)
        second = teacher_temperature_at(max(epoch - waits, 0), *courses[1], by_epoch=True)
        targets = centres[0].around(teacher["cls"], first).unflatten(0, (2, -1))
        rows = torch.cat([student[name] for name in names if name != "patch"])
        classes = between_crops(rows.unflatten(0, (-1, targets.shape[1])), targets, 0.1)
        patches = of_masked_patches(
            masked_rows(student["patch"], mask),
            masked_rows(centres[1].around(teacher["patch"], second), mask),
            mask,
            0.1,
        )
        close(classes * weights[0], found[f"loss/cls_{step}"])
        close(patches * weights[1], found[f"loss/patch_{step}"])
        (weights[0] * classes + weights[1] * patches).backward()
        for name in names:
            close(student[name].grad, found[f"grad/student_{name}_{step}"])
        for centre, name, buffer in zip(centres, ("cls", "patch"), ("center", "center2")):
            centre.push(teacher[name].reshape(-1, teacher[name].shape[-1]))
            centre.advance()
            close(centre.mean, found[f"buf/{buffer}_after_{step}"].flatten())


@pytest.mark.parametrize("case", ["dino_centering_3steps", "dino_sinkhorn"])
def test_synclrs_targets_and_dino_term(case: str) -> None:
    found = golden(f"synclr_dino_ibot/{case}")
    centre = Centre(found["in/teacher_0"].shape[1], 0.9)
    for step, temperature in enumerate(found["in/teacher_temps"]):
        teacher = found[f"in/teacher_{step}"]
        student = found[f"in/student_{step}"].clone().requires_grad_()
        targets = sinkhorn(teacher, temperature) if "sinkhorn" in case else centre.around(teacher, temperature)
        close(targets[None], found[f"out/teacher_probs_{step}"])
        crops = student.unflatten(0, (-1, len(teacher)))
        value = distilled(targets, crops, 0.1).mean()
        close(value, found[f"loss/over_n_local_{step}"])
        (value * len(crops)).backward()
        close(student.grad, found[f"grad/student_{step}"])
        centre.push(teacher)
        centre.advance()
    if "buf/center_final" in found:
        close(centre.mean, found["buf/center_final"][0])


@pytest.mark.parametrize("case", ["ibot_centering_2steps", "ibot_sinkhorn_masked_samples"])
def test_synclrs_masked_patches(case: str) -> None:
    found = golden(f"synclr_dino_ibot/{case}")
    centre = Centre(found["in/teacher_tokens_0"].shape[2], 0.9)
    for step, temperature in enumerate(found["in/teacher_temps"]):
        mask = found[f"in/masks_{step}"]
        student = found[f"in/student_tokens_{step}"].clone().requires_grad_()
        scores = masked_rows(found[f"in/teacher_tokens_{step}"], mask)
        targets = sinkhorn(scores, temperature) if "sinkhorn" in case else centre.around(scores, temperature)
        close(targets, found[f"out/teacher_probs_masked_{step}"])
        value = of_masked_patches(masked_rows(student, mask), targets, mask, 0.1)
        if "sinkhorn" in case:
            value = value * len(mask) / found["in/n_masked_samples"]
        close(value, found[f"loss/forward_masked_{step}"])
        value.backward()
        close(student.grad, found[f"grad/student_tokens_{step}"])
        centre.push(scores)
        centre.advance()
    if "buf/center_final" in found:
        close(centre.mean, found["buf/center_final"].flatten())


def by_view(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of their images, sorted as views of samples; one label of each sample."""
    order = labels.argsort(stable=True).view(len(labels.unique()), -1).T  # (V, B)
    return order, labels[order[0]]


@pytest.mark.parametrize("case", ["global_only", "local2_keep_same"])
def test_synclrs_contrast(case: str) -> None:
    """Each image is a sample of one view here, and labels make the positives."""
    found = golden(f"synclr_supcon_momentum/{case}")
    labels = found["in/teacher_labels"]
    queries = found["in/student_contrast_cls"].clone().requires_grad_()
    keys = unit(found["in/teacher_contrast_cls"])[None]
    value = momentum_sup_con(unit(queries).unflatten(0, (-1, len(labels))), keys, labels, 0.1)
    close(value, found["loss/total_contrast_loss"])
    value.backward()
    close(queries.grad, found["grad/student_contrast_cls"])


class Tokens(nn.Module):
    """The goldens' stub of a backbone: one linear map on given tokens, of which the first is the class token."""

    takes_masks = has_class_token = True
    channels = 10

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(10, 10)

    def forward(
        self, images: Tensor, *, tokens: bool = False, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Features:
        if mask is not None:
            assert mask_token is not None
            patches = torch.where(mask[:, :, None], mask_token, images[:, 1:])
            images = torch.cat([images[:, :1], patches], dim=1)
        made = self.lin(images)
        side = math.isqrt(made.shape[1] - 1)
        return Features(pooled=made[:, 0], cls=made[:, 0], patches=made[:, 1:], grid=(side, side))


HEADS = {
    "proj.mlp.": "projector.",
    "pred.mlp.": "predictor.",
    "dino_head.": "head.",
    "backbone.mask_token": "mask_token",
}


def place(name: str) -> str:
    """Our name of a parameter of theirs, in a module of encoder and objective."""
    if name.startswith("backbone.lin."):
        return name.replace("backbone.", "encoder.")
    for theirs, mine in HEADS.items():
        if name.startswith(theirs):
            return "objective." + ours(name.replace(theirs, mine, 1))
    raise AssertionError(name)


def test_synclrs_whole_loss_for_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrast, masked patches and prototypes of local crops together, with their teacher, by Sinkhorn's algorithm.

    Their weights are 2, 1 and 1: half of the latter two, and all of it twice. The samples of one label are views here.
    """
    found = golden("synclr_total/sinkhorn_local2")
    encoder = Tokens()
    setup = Setup(encoder=encoder, width=10, seed=0, num_views=3, local_views=2, total_steps=2)
    objective: Any = build_objective(
        "synclr",
        setup,
        **{"projector_width": 16, "projector_dim": 8, "prototypes": 12, "head_width": 14, "bottleneck": 6},
        **{"dino_weight": 0.5, "ibot_weight": 0.5},
    )
    whole = nn.ModuleDict({"encoder": encoder, "objective": objective})
    state = {place(key): value for key, value in part(found, "param/student/").items()}
    missing = whole.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    teacher = part(found, "param/teacher/")
    objective.target.networks[0].load_state_dict({k: teacher[f"backbone.{k}"] for k in ("lin.weight", "lin.bias")})
    objective.target.networks[1][0].load_state_dict(part(teacher, "proj.mlp."))
    objective.target.networks[1][1].load_state_dict({ours(k): v for k, v in part(teacher, "dino_head.").items()})
    order, _ = by_view(found["in/step0/collated_global_labels"])
    flat = order.flatten()
    for step, temperature in enumerate((0.04, 0.07)):
        given = part(found, f"in/step{step}/")
        mask = given["collated_masks"][flat]
        monkeypatch.setattr(objective.masks, "draw", lambda *_, mask=mask: mask)
        monkeypatch.setattr(
            "genrep.train.objectives.distillation.teacher_temperature_at", lambda *_, t=temperature, **__: t
        )
        local = given["collated_local_crops"].unflatten(0, (2, -1))[:, flat].flatten(0, 1)
        batch = {LOCAL_CROPS: local, "index": torch.arange(2)}
        output = objective.loss(encoder, given["collated_global_crops"][flat], batch, step)
        close(2 * output.loss, found[f"loss/step{step}/loss"], atol=5e-5)
        close(2 * output.metrics["contrast_loss"], 2 * found[f"loss/step{step}/total_contrast_loss"], atol=5e-5)
        close(output.metrics["patch_loss"], found[f"loss/step{step}/ibot_loss"], atol=5e-5)
        close(output.metrics["class_loss"], found[f"loss/step{step}/dino_loss"], atol=5e-5)
        whole.zero_grad()
        (2 * output.loss).backward()
        parameters = dict(whole.named_parameters())
        for key, wanted in part(found, f"grad/step{step}/").items():
            close(parameters[place(key)].grad, wanted, atol=2e-4)
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.requires_grad:
                    parameter -= 0.1 * parameter.grad
        monkeypatch.setattr(objective, "momentum", lambda *_: 0.99)
        objective.after_step(encoder, step, 2)
    final = part(found, "out/teacher_final/")
    for key in ("lin.weight", "lin.bias"):
        close(objective.target.networks[0].state_dict()[key], final[f"backbone.{key}"])
    for key, wanted in part(final, "proj.mlp.").items():
        close(objective.target.networks[1][0].state_dict()[key], wanted)
    for key, wanted in part(final, "dino_head.").items():
        close(objective.target.networks[1][1].state_dict()[ours(key)], wanted)


def test_synclrs_schedules() -> None:
    found = golden("synclr_schedules/cosine_10ep")
    for row, epoch in enumerate(map(float, found["in/epoch_float"])):
        momentum = momentum_at(round(epoch * 3), 30, 0.994, "cosine")
        assert momentum == pytest.approx(float(found["out/momentum_cosine_v1"][row]), abs=1e-9)
        temperature = teacher_temperature_at(epoch, 0.04, 0.07, 4, by_epoch=False)
        assert temperature == pytest.approx(float(found["out/teacher_temp"][row]), abs=1e-9)
