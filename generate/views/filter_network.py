"""The discriminator of a filter: how real an image looks once its fine detail is blurred away."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD
from genrep.seeding import derive

BLUR_RADIUS, BLUR_SIGMA = 2, 1.5  # pixels: a 5x5 kernel (HL)
MIN_SIDE = 4  # pixels of an image: reflection at its border needs more than the radius
SLOPE = 0.2  # of leaky ReLU
FIRST_WIDTH, LARGEST_WIDTH = 16, 256  # channels


class Scorer(nn.Module):
    """Gaussian blur, ImageNet's normalisation, then 3x3 convolutions that halve the image until a side is below 8.

    No layer looks at more than one image (no batch norm), so a score depends on its image alone, in training as after it.

    Shape: ``(B, H, W, 3)`` uint8 -> ``(B,)``, the log-odds of being real.
    """

    kernel: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, height: int, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.register_buffer("kernel", blur_kernel().expand(3, 1, -1, -1).clone(), persistent=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2 if i else 1, padding=1)
            for i, (before, after) in enumerate(itertools.pairwise((3, *channels)))
        )
        self.out = nn.Linear(channels[-1] * map_size(height, width, len(channels) - 1), 1)

    def forward(self, levels: Tensor) -> Tensor:
        x = self.prepare(levels)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        return self.out(x.flatten(1))[:, 0]

    def prepare(self, levels: Tensor) -> Tensor:
        """What the network sees. Shape: ``(B, H, W, 3)`` uint8 -> ``(B, 3, H, W)`` float32."""
        x = levels.permute(0, 3, 1, 2).float() / 255
        x = F.conv2d(F.pad(x, (BLUR_RADIUS,) * 4, mode="reflect"), self.kernel, groups=3)
        return (x - self.mean) / self.std


def blur_kernel() -> Tensor:
    """Gaussian weights that sum to 1. Shape: ``(5, 5)``."""
    distance = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (distance / BLUR_SIGMA).square())
    weights = weights / weights.sum()
    return torch.outer(weights, weights).float()


def map_size(height: int, width: int, halvings: int) -> int:
    """Pixels that are left after the strided convolutions."""
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    return height * width


def channels_for(height: int, width: int) -> tuple[int, ...]:
    """Widths of the convolutions that suit images of a size: 16, 32, 64, 128 for 32x32."""
    side, channels = min(height, width), [FIRST_WIDTH]
    while side >= 2 * MIN_SIDE:
        side = -(-side // 2)
        channels.append(min(2 * channels[-1], LARGEST_WIDTH))
    return tuple(channels)


def new_scorer(height: int, width: int, seed: int) -> Scorer:
    """A fresh discriminator for images of a size, from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("filter-init", seed))
        scorer = Scorer(height, width, channels_for(height, width))
        for conv in scorer.convs:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, a=SLOPE)
            nn.init.zeros_(conv.bias)
    return scorer


def discriminator_loss(on_real: Tensor, on_generated: Tensor) -> Tensor:
    """Binary cross-entropy of log-odds, real = 1, generated = 0, both kinds weighing the same. Shape: ``(B,), (B,) -> ()``."""
    return (F.softplus(-on_real).mean() + F.softplus(on_generated).mean()) / 2
