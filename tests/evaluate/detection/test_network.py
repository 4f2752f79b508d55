"""The detector's parts against what they shall compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import FrozenBatchNorm2d

from genrep.encoders import load_encoder, random_encoder
from genrep.errors import WeightsError
from genrep.evaluate.detection.config import DetectionPreset
from genrep.evaluate.detection.network import Align, Sampler, build_detector


def build(encoder: Path, preset: DetectionPreset, **options: object) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    return build_detector(load_encoder(encoder), preset, num_classes=2, seed=0, generator=generator, **options)


IMAGES = [torch.rand(3, 64, 96), torch.rand(3, 72, 80)]
TARGETS = [
    {"boxes": torch.tensor([[4.0, 4, 30, 30]]), "labels": torch.tensor([1])},
    {"boxes": torch.tensor([[10.0, 8, 40, 60], [50, 10, 76, 40]]), "labels": torch.tensor([2, 1])},
]


def test_losses_and_detections(encoder: Path, tiny: DetectionPreset) -> None:
    model = build(encoder, tiny)
    before = torch.get_rng_state()
    losses = model(IMAGES, TARGETS)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())  # end to end, conv1 to the box head
    model.eval()
    model.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        found = model(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)  # nothing draws from the global stream
    for image, detections in zip(IMAGES, found):
        boxes = detections["boxes"]
        assert 0 < len(boxes) <= 100 and set(detections["labels"].tolist()) <= {1, 2}
        assert (boxes >= 0).all() and (boxes[:, 2] <= image.shape[2]).all() and (boxes[:, 3] <= image.shape[1]).all()


def test_the_encoder_is_inside_and_the_rest_is_the_seeds(encoder: Path, tiny: DetectionPreset) -> None:
    model, again = build(encoder, tiny), build(encoder, tiny)
    state = load_encoder(encoder).module.state_dict()
    names = dict(model.backbone.state_dict()) | dict(model.roi_heads.box_head.state_dict())
    assert all(torch.equal(names[name], value) for name, value in state.items() if not name.startswith("fc"))
    for one, two in zip(model.state_dict().values(), again.state_dict().values()):
        assert torch.equal(one, two)


def test_boxes_are_learned_by_l1(encoder: Path, tiny: DetectionPreset) -> None:
    rpn = build(encoder, tiny).rpn
    labels = [torch.tensor([1.0, 0, 0, -1]), torch.tensor([0.0, 1, -1, 0])]
    targets = [torch.rand(4, 4), torch.rand(4, 4)]
    scores, deltas = torch.randn(8, 1), torch.rand(8, 4)
    objectness, boxes = rpn.compute_loss(scores, deltas, labels, targets)
    counted = torch.tensor([0, 1, 2, 4, 5, 7])  # all but -1: fewer than 256
    wanted = F.binary_cross_entropy_with_logits(scores[counted, 0], torch.cat(labels)[counted])
    torch.testing.assert_close(objectness, wanted)
    both = torch.cat(targets)
    torch.testing.assert_close(boxes, ((deltas - both).abs()[0].sum() + (deltas - both).abs()[5].sum()) / 6)


def test_the_class_and_box_losses(encoder: Path, tiny: DetectionPreset, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = build(encoder, tiny).roi_heads
    scores, deltas, wanted = torch.randn(3, 3), torch.randn(3, 12), torch.randn(3, 4)
    labels = torch.tensor([2, 0, 1])
    monkeypatch.setattr(heads, "select_training_samples", lambda *_: ([], None, [labels], [wanted]))
    monkeypatch.setattr(heads.box_roi_pool, "forward", lambda *_: None)
    monkeypatch.setattr(heads.box_head, "forward", lambda *_: None)
    monkeypatch.setattr(heads.box_predictor, "forward", lambda *_: (scores, deltas))
    _, losses = heads({}, [], [], [])
    torch.testing.assert_close(losses["loss_classifier"], F.cross_entropy(scores, labels))
    l1 = (deltas[0, 8:12] - wanted[0]).abs().sum() + (deltas[2, 4:8] - wanted[2]).abs().sum()
    torch.testing.assert_close(losses["loss_box_reg"], l1 / 3)


def test_the_sampler_draws_as_many_as_it_should_from_its_own_stream() -> None:
    labels = [torch.tensor([1] * 30 + [0] * 100 + [-1] * 20), torch.tensor([2, 3] + [0] * 20)]
    sampler = Sampler(40, 0.25, torch.Generator().manual_seed(4))
    objects, background = sampler(labels)
    assert [int(mask.sum()) for mask in objects] == [10, 2]
    assert [int(mask.sum()) for mask in background] == [30, 20]
    for found, mine, others in zip(labels, objects, background):
        assert (found[mine] >= 1).all() and (found[others] == 0).all()
    again, _ = Sampler(40, 0.25, torch.Generator().manual_seed(4))(labels)
    other, _ = Sampler(40, 0.25, torch.Generator().manual_seed(5))(labels)
    assert torch.equal(again[0], objects[0]) and not torch.equal(other[0], objects[0])


def test_regions_are_aligned_to_pixel_centres() -> None:
    """A map whose value is the x of its pixel's centre in the image: a region's bins see the x of their own centres."""
    x = (torch.arange(20.0) + 0.5) * 16
    features = {"res4": x.expand(1, 1, 12, 20).contiguous()}
    (pooled,) = Align(4)(features, [torch.tensor([[40.0, 32, 232, 160]])], [(192, 320)])
    torch.testing.assert_close(pooled[0], (40 + 192 / 4 * (torch.arange(4) + 0.5)).expand(4, 4))


def test_frozen_norms_stay_as_they_were(encoder: Path, tiny: DetectionPreset) -> None:
    model = build(encoder, tiny, norm="frozen")
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms == [model.roi_heads.box_head.norm]  # the extra one has no statistics to freeze
    frozen = model.backbone.get_submodule("bn1")
    assert isinstance(frozen, FrozenBatchNorm2d)
    original = load_encoder(encoder).module.eval().get_submodule("bn1")
    x = torch.randn(2, 64, 5, 5)
    torch.testing.assert_close(frozen(x), original(x))


def test_an_encoder_of_another_stride_is_refused(tiny: DetectionPreset) -> None:
    encoder = random_encoder("resnet18", "cifar", 0)
    with pytest.raises(WeightsError, match="the cifar stem; detection requires a ResNet with the imagenet stem"):
        build_detector(encoder, tiny, num_classes=2, seed=0, generator=torch.Generator())
