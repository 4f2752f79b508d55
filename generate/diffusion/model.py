"""A denoiser in training, and its training step: flow matching (Lipman et al. 2023; rectified flow, Liu et al. 2023).

``x_t = (1 - t) x_0 + t noise``; the network learns the velocity ``noise - x_0`` from (x_t, t, class) by its mean squared error.
t follows the logit-normal law (Esser et al. 2024, section 3.1), which dwells on the middle, where the velocity is hardest.
Every random draw of a step is a function of (seed, step).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor

from genrep.devices import pick_precision
from genrep.errors import phrase
from genrep.seeding import derive

from ..training_images import TrainingImages
from .config import FitDiffusionConfig

WAY = phrase("try a lower {lr}, or {precision} fp32")  # advice for a training that has diverged
TIMES = 1000  # the network is told t times so much, as diffusers' schedulers for flow matching do
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 0.01, 1.0


def make_network(config: FitDiffusionConfig, *, resolution: int, channels: int, num_classes: int) -> UNet2DModel:
    """The U-Net of these settings with fresh weights; with ``num_classes`` it has one more, the null class."""
    sides = [resolution >> level for level in range(len(config.channels))]
    attends = [side == config.attention for side in sides]
    return UNet2DModel(
        sample_size=resolution,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        down_block_types=tuple("AttnDownBlock2D" if one else "DownBlock2D" for one in attends),
        up_block_types=tuple("AttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)),
        attention_head_dim=min(32, *config.channels),
        norm_num_groups=config.norm_groups,
        time_embedding_dim=config.embedding,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=num_classes + 1 if num_classes else None,
    )


def flow_loss(predict: Callable[[Tensor, Tensor], Tensor], images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity. Shapes: ``(B, C, H, W), (B, C, H, W), (B,) -> ()``."""
    part = t[:, None, None, None]
    velocity = predict((1 - part) * images + part * noise, t)
    return F.mse_loss(velocity.float(), noise - images)


class Denoiser:
    """Owns the network, its average and its optimiser."""

    def __init__(self, config: FitDiffusionConfig, real: TrainingImages, num_classes: int) -> None:
        self.config, self.real, self.num_classes = config, real, num_classes
        self.device = real.device
        torch.manual_seed(derive("diffusion-init", config.seed))
        network = make_network(config, resolution=real.resolution, channels=real.channels, num_classes=num_classes)
        for module in network.modules():
            # Over so few pixels plain products are faster: the fused kernel's gradient takes a CPU a third of a step.
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor())
        self.network = network.to(self.device).to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.forward: Callable[..., Any] = torch.compile(self.network) if config.compile else self.network
        self.half = pick_precision(config.precision, self.device) == "bf16"
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.step = 0

    @property
    def images_seen(self) -> int:
        """Training images so far."""
        return self.step * self.config.batch_size

    def rate(self) -> float:
        """The learning rate of the next step: rises, stays, and falls linearly to zero in the last part of the training."""
        config, seen = self.config, self.images_seen + self.config.batch_size
        rising = min(1.0, seen / config.warmup_images) if config.warmup_images else 1.0
        falling = config.decay * config.total_images
        left = max(config.total_images - self.images_seen, 0)
        return config.lr * min(rising, left / falling if falling else 1.0)

    def train_step(self) -> dict[str, Tensor | float]:
        """One update; returns the loss, and the norm of its gradient."""
        config = self.config
        torch.manual_seed(derive("diffusion-step", config.seed, self.step))
        images, labels = self.real.batch(self.step)
        noise = torch.randn_like(images)
        t = torch.randn(len(images), device=self.device).sigmoid()
        y = self.shown_classes(labels)
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = flow_loss(lambda x, t: self.predict(x, t, y), images, noise, t)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP, foreach=True)
        self.optimiser.step()
        self.step += 1
        self.update_average()
        return {"loss": loss.detach(), "gradient_norm": norm.detach(), "lr": rate}

    def shown_classes(self, labels: Tensor) -> Tensor | None:
        """The labels with the null class in place of some, None if unconditional. Draws from torch's global stream."""
        if not self.num_classes:
            return None
        labels = labels.to(self.device)
        dropped = torch.rand(len(labels), device=self.device) < self.config.drop_class
        return torch.where(dropped, self.num_classes, labels)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """The velocity of the network in training. Shapes: ``(B, C, H, W), (B,), (B,) -> (B, C, H, W)``."""
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            velocity: Tensor = self.forward(x, t * TIMES, y, return_dict=False)[0]
        return velocity

    @torch.no_grad()
    def update_average(self) -> None:
        """The exponential moving average of the weights; its half-life grows with the training."""
        halflife = min(self.config.ema_halflife, self.images_seen * self.config.ema_rampup)
        beta = 0.5 ** (self.config.batch_size / halflife)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - beta)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
