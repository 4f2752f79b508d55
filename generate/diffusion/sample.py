"""Samples of a denoiser in training, by the loop that later samples from its folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..generators.diffusers.denoisers.pixels import PixelDenoiser
from ..generators.diffusers.generator import DiffusionGenerator
from ..generators.diffusers.schedules import make_schedule
from ..generators.diffusers.spaces import PixelSpace


def make_sampler(network: Any, scheduler: Any, *, null_class: bool, guidance: float, steps: int) -> DiffusionGenerator:
    """The generator of a U-Net on pixels that is in memory; ``null_class``: its last class stands for none."""
    channels, side = network.config.in_channels, network.config.sample_size
    schedule = make_schedule(
        scheduler,
        steps,
        eta=None,
        channels=(channels, channels),
        device=network.device,
        where="the denoiser in training",
    )
    return DiffusionGenerator(
        nn.ModuleDict({"unet": network}),
        PixelDenoiser(network, guidance, null_class=null_class),
        PixelSpace(channels, side, side),
        schedule,
        torch.float32,
    )
