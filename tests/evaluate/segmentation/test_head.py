"""The linear head's loss, gradient and rate."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from genrep.evaluate.segmentation.config import PRESETS
from genrep.evaluate.segmentation.head import PatchHead, pixel_loss


def test_the_loss_is_the_mean_over_all_pixels_and_its_gradient_is_autograds() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(3, 4, 6, generator=generator)
    masks = torch.randint(0, 5, (3, 16, 16), generator=generator)
    masks[0, :5] = masks[2] = 255  # an image of void alone
    heads = [PatchHead(6, 5, seed=0), PatchHead(6, 5, seed=0)]
    found = pixel_loss(heads[0](patches, (2, 2)), masks)
    scores = F.interpolate(heads[1](patches, (2, 2)), (16, 16), mode="bilinear", align_corners=False)
    wanted = F.cross_entropy(scores, masks, ignore_index=255, reduction="none").mean()
    wanted.backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    for ours, theirs in zip(heads[0].parameters(), heads[1].parameters()):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-7)


def test_scores_stand_where_their_patches_do() -> None:
    head = PatchHead(3, 2, seed=0).eval()
    patches = torch.randn(1, 6, 3)
    scores = head(patches, (2, 3))
    assert scores.shape == (1, 2, 2, 3)
    assert torch.allclose(scores[0, :, 1, 2], head.linear(head.norm(patches[0, 5:]))[0])


def test_the_rate_of_the_authors_schedule() -> None:
    preset = PRESETS["dinov3"]
    assert round(preset.warmup * preset.steps) == 1500
    # Their scheduler: (1 - k) (1 - n / N) with k = (1 - n / 1500) (1 - 1e-6), then the cosine of n + 1; it stands still once.
    for step in (0, 1, 2, 700, 1500, 1501, 20_000, 39_999):
        n = max(step - 1, 0)
        k = (1 - n / 1500) * (1 - 1e-6)
        wanted = (1 - k) * (1 - n / 40_000) if n < 1500 else (math.cos(math.pi * (n + 1) / 40_000) + 1) / 2
        assert preset.rate(step) == pytest.approx(1e-3 * wanted, rel=1e-9, abs=1e-12)
