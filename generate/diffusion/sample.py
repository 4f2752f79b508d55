"""Euler's method from noise to images."""

from __future__ import annotations

from itertools import pairwise

import torch
from diffusers import UNet2DModel
from torch import Tensor

from .model import TIMES


def sample(network: UNet2DModel, noise: Tensor, y: Tensor | None, *, steps: int, guidance: float = 1.0) -> Tensor:
    """Images from noise, at equal steps of t from 1 to 0.

    ``guidance``: how far to go from the velocity of the null class towards, and past, that of the class; 1 is the class's own.
    Shapes: noise ``(B, C, H, W)``, y ``(B,)`` classes or None -> ``(B, C, H, W)``.
    """
    x, times = noise, torch.linspace(1, 0, steps + 1)
    for t, after in pairwise(times):
        time = (t * TIMES).expand(len(x)).to(x)
        if y is None or guidance == 1:
            velocity = network(x, time, y).sample
        else:
            null = torch.full_like(y, network.config.num_class_embeds - 1)
            both = network(torch.cat([x, x]), torch.cat([time, time]), torch.cat([y, null])).sample
            with_class, without = both.chunk(2)
            velocity = without + guidance * (with_class - without)
        x = x + (after - t) * velocity
    return x
