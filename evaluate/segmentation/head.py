"""A linear head on the patches of a frozen encoder, and its steps: dropout of channels, batch norm, a linear map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.encoders import Features
from genrep.errors import TrainingError
from genrep.features import FrozenEncoder
from genrep.runs.engine import Pace, Trainer
from genrep.runs.metrics import Line
from genrep.seeding import derive

from ..transforms import Pixels
from .config import SegmentationPreset
from .layout import VOID, Mask

INITIAL_STD = 0.01
Batch = tuple[Pixels, Mask]


class PatchHead(nn.Module):
    """Scores of every patch for every class: batch norm over all patches, then a linear map."""

    def __init__(self, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, classes)
        generator = torch.Generator().manual_seed(derive("segmentation-head", seed))
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(classes, channels, generator=generator) * INITIAL_STD)
            self.linear.bias.zero_()

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Shape: ``(B, h * w, C) -> (B, classes, h, w)``."""
        scores: Tensor = self.linear(self.norm(patches.flatten(0, 1)))
        return scores.view(len(patches), *grid, -1).permute(0, 3, 1, 2)


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """The mean cross-entropy over all pixels, of which void ones count as 0; also sets the gradient by ``logits``.

    Scores are enlarged to the masks one image at a time, so that the memory is one image's.

    Shape: ``(B, classes, h, w)``, ``(B, H, W)`` int64.
    """
    leaf = logits.detach().requires_grad_()
    total = logits.new_zeros(())
    for i in range(len(masks)):
        scores = F.interpolate(leaf[i : i + 1], masks.shape[1:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(scores, masks[i : i + 1], ignore_index=VOID, reduction="sum") / masks.numel()
        loss.backward()
        total += loss.detach()
    assert leaf.grad is not None
    logits.backward(leaf.grad)
    return total


class HeadTrainer(Trainer):
    """Owns the head and its optimiser. Every draw of a step is a function of (seed, step)."""

    def __init__(
        self,
        encoder: FrozenEncoder,
        preset: SegmentationPreset,
        classes: int,
        seed: int,
        batches: Callable[[range], Iterator[Batch]],
    ) -> None:
        """``batches``: those of a range of steps."""
        self.encoder, self.preset, self.seed, self.of_steps = encoder, preset, seed, batches
        self.head = PatchHead(_channels(encoder, preset), classes, seed).to(encoder.device)
        self.optimiser = torch.optim.AdamW(
            self.head.parameters(), lr=preset.lr, betas=preset.betas, weight_decay=preset.weight_decay
        )
        self.step = 0
        self.batches: Iterator[Batch] | None = None  # from the next step on

    def train_step(self) -> Mapping[str, Tensor | float]:
        """One update. Raises TrainingError: a batch has a single patch, which batch norm cannot take."""
        if self.batches is None:
            self.batches = self.of_steps(range(self.step, self.preset.steps))
        pixels, masks = next(self.batches)
        rate = self.preset.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        features = self.encoder.tokens(pixels)
        if features.patches.shape[0] * features.patches.shape[1] < 2:
            raise TrainingError.naming(
                "{batch_size} {}: one patch in all; wanted two or more for batch norm", len(pixels)
            )
        self.head.train()
        logits = self.head(self._dropped(features.patches), features.grid)
        self.optimiser.zero_grad(set_to_none=True)
        loss = pixel_loss(logits, torch.from_numpy(masks).to(self.encoder.device).long())
        self.optimiser.step()
        self.step += 1
        return {"loss": loss, "lr": rate}

    def _dropped(self, patches: Tensor) -> Tensor:
        """Dropout of whole channels of an image, drawn on the CPU: the same on every device."""
        if not (part := self.preset.dropout):
            return patches
        generator = torch.Generator().manual_seed(derive("segmentation-dropout", self.seed, self.step))
        kept = torch.rand(patches.shape[0], 1, patches.shape[2], generator=generator) >= part
        return patches * (kept.to(patches.device) / (1 - part))

    @torch.no_grad()
    def score(self, pixels: Pixels) -> Tensor:
        """Scores of the test. Shape: ``(B, H, W, 3) -> (B, classes, h, w)``."""
        found = self.encoder.tokens(pixels)
        self.head.eval()
        scores: Tensor = self.head(found.patches, found.grid)
        return scores

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Loss and rate."""
        return {"step": self.step, **means, "seconds": round(pace.seconds, 1)}

    def weights(self) -> Mapping[str, Tensor]:
        """The linear map's. Batch norm's statistics are the encoder's features', of any scale."""
        weights: Mapping[str, Tensor] = self.head.linear.state_dict()
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {"head": self.head.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def close(self) -> None:
        """Let go of the threads that decode."""
        self.batches = None


def _channels(encoder: FrozenEncoder, preset: SegmentationPreset) -> int:
    found: Features = encoder.tokens(np.zeros((1, preset.crop, preset.crop, 3), dtype=np.uint8))
    return found.patches.shape[2]
