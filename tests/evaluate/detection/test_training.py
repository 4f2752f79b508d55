"""The schedule, what is decayed, the statistics of batch norm, and losses that are no numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genrep.encoders import load_encoder
from genrep.errors import TrainingError
from genrep.evaluate.detection.config import PRESETS, DetectionPreset
from genrep.evaluate.detection.data import training_batches
from genrep.evaluate.detection.network import build_detector
from genrep.evaluate.detection.training import DetectionStep, learning_rate, parameter_groups
from genrep.evaluate.voc.layout import read_split
from genrep.runs.processes import Processes

CPU = torch.device("cpu")


def trainer(encoder: Path, preset: DetectionPreset) -> DetectionStep:
    generator = torch.Generator()
    model = build_detector(load_encoder(encoder), preset, num_classes=2, seed=0, generator=generator)
    return DetectionStep(model, preset, 0, generator, Processes(device=CPU), Path("runs/voc/detection-1"))


@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        ("genrep-24k", 0, 0.02e-3),
        ("genrep-24k", 50, 0.02 * (0.001 + 0.999 / 2)),
        ("genrep-24k", 100, 0.02),
        ("genrep-24k", 17_999, 0.02),
        ("genrep-24k", 18_000, 0.002),
        ("genrep-24k", 22_000, 0.0002),
        ("cop-gen-96k", 399, 0.005 * (0.001 + 0.999 * 399 / 400)),
        ("cop-gen-96k", 72_000, 0.0005),
        ("cop-gen-96k", 88_000, 0.00005),
    ],
)
def test_the_papers_schedules(name: str, step: int, rate: float) -> None:
    assert learning_rate(step, PRESETS[name]) == pytest.approx(rate, rel=1e-9)


def test_the_papers_settings() -> None:
    genrep, cop_gen = PRESETS["genrep-24k"], PRESETS["cop-gen-96k"]
    assert (genrep.batch_size, genrep.steps, genrep.max_size, genrep.rpn_test) == (8, 24_000, 1333, (6000, 1000))
    assert (cop_gen.batch_size, cop_gen.steps, cop_gen.max_size, cop_gen.rpn_test) == (4, 96_000, 1024, (6000, 1000))
    for preset in (genrep, cop_gen):
        assert preset.min_sizes == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
        assert (preset.anchors, preset.pool, preset.rois) == ((32, 64, 128, 256, 512), 14, 512)


def test_norms_are_not_decayed(encoder: Path, tiny: DetectionPreset) -> None:
    model = trainer(encoder, tiny).bare
    decayed, norms = parameter_groups(model, 1e-4)
    assert (decayed["weight_decay"], norms["weight_decay"]) == (1e-4, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert len(decayed["params"]) + len(norms["params"]) == len(names)
    assert all(
        "bn" in names[id(p)] or "norm" in names[id(p)] or "downsample.1" in names[id(p)] for p in norms["params"]
    )


def test_statistics_of_norms_are_plain_means_over_batches(
    encoder: Path, rectangles: Path, tiny: DetectionPreset
) -> None:
    machine = trainer(encoder, tiny)
    batches = list(training_batches(read_split([rectangles], "trainval").images, tiny, 0, range(3)))
    norm = machine.bare.backbone.get_submodule("bn1")
    seen = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3))))
    weights = machine.bare.backbone.get_submodule("conv1").weight.clone()
    machine.measure_norms(batches)
    hook.remove()
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0))
    assert norm.momentum == 0.1 and int(norm.num_batches_tracked) == 3
    assert torch.equal(weights, machine.bare.backbone.get_submodule("conv1").weight)


@pytest.mark.slow
def test_gradients_are_clipped(encoder: Path, rectangles: Path, tiny: DetectionPreset) -> None:
    batch = next(training_batches(read_split([rectangles], "trainval").images, tiny, 0, range(1)))
    machine = trainer(encoder, replace(tiny, clip_norm=1e-3))
    machine.train_step(batch)
    norm = torch.stack([p.grad.norm() for p in machine.bare.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_no_number_changes_nothing(encoder: Path, rectangles: Path, tiny: DetectionPreset) -> None:
    machine = trainer(encoder, tiny)
    batch = next(training_batches(read_split([rectangles], "trainval").images, tiny, 0, range(1)))
    with torch.no_grad():
        machine.bare.rpn.head.cls_logits.weight.fill_(float("nan"))
    conv1 = machine.bare.backbone.get_submodule("conv1").weight
    before = conv1.clone()
    with pytest.raises(TrainingError) as caught:
        machine.train_step(batch)
    assert str(caught.value) == (
        "out runs/voc: detection-1: loss is nan at step 0, lr 2e-05: this training has diverged; try a lower lr, "
        "in a new out; what it wrote before is kept"
    )
    assert torch.equal(conv1, before)
