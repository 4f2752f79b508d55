"""A StyleGAN2 in training: its networks and its training step.

A step is non-saturating loss, lazy R1, adaptive augmentation, and an exponential moving average of the weights
(Karras et al. 2020). Every random draw of a step is a function of (seed, step).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.devices import pick_precision
from genrep.errors import ResumeError, WeightsError, phrase
from genrep.runs.checkpoints import FAULTS, read_state, reason_of
from genrep.runs.sanity import diverged
from genrep.seeding import derive

from ..generators.stylegan2.networks import StyleGAN2Config, StyleGAN2Network, channel_schedule
from .config import FitGanConfig
from .discriminator import Discriminator, adjust_probability, augment
from .real import RealImages

NETWORKS = ("generator", "average", "discriminator")
WAY = phrase("try a lower {lr}")  # advice for a training that has diverged
ADA_INTERVAL = 4  # steps between two adjustments of the augmentation probability


class Gan:
    """Owns the networks, the optimisers of two of them, and the augmentation probability."""

    def __init__(self, config: FitGanConfig, real: RealImages) -> None:
        self.config, self.real, self.device = config, real, real.device
        channels = channel_schedule(real.resolution, config.channel_base, config.channel_max)
        torch.manual_seed(derive("gan-init", config.seed))
        network_config = StyleGAN2Config(
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            resolution=real.resolution,
            channels=channels,
            img_channels=real.channels,
            c_dim=real.num_classes,
            num_mapping_layers=config.mapping_layers,
        )
        self.generator = StyleGAN2Network(network_config).to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = Discriminator(
            resolution=real.resolution, channels=channels, img_channels=real.channels, c_dim=real.num_classes
        )
        self.discriminator = self.discriminator.to(self.device).to(memory_format=torch.channels_last)
        dtype = torch.bfloat16 if pick_precision(config.precision, self.device) == "bf16" else torch.float32
        self.generator.synthesis.dtype = self.discriminator.dtype = dtype
        self.synthesis: Callable[..., Tensor] = (
            torch.compile(self.generator.synthesis) if config.compile else self.generator.synthesis
        )
        self.judge: Callable[..., Tensor] = torch.compile(self.discriminator) if config.compile else self.discriminator
        self.optimisers = self._optimisers()
        if config.init is not None:
            self._start_from(read_networks(config.init, self.device))
        self.step = 0
        self.augment_p = 0.0

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        # Lazy regularisation (Karras et al. 2020, appendix B): R1 once in r1_interval steps, with the rates of an
        # optimiser that would have taken the two kinds of step in one.
        ratio = self.config.r1_interval / (self.config.r1_interval + 1)
        lr = self.config.lr
        return {
            "generator": torch.optim.Adam(self.generator.parameters(), lr=lr, betas=(0.0, 0.99), eps=1e-8, fused=True),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True
            ),
        }

    def _start_from(self, states: dict[str, dict[str, Tensor]]) -> None:
        """Take another run's weights wherever a tensor has the same name and shape.

        This gives a conditional network the convolutions of an unconditional one.
        """
        for name, network in self.networks.items():
            ours = network.state_dict()
            same = {
                key: tensor for key, tensor in states[name].items() if key in ours and ours[key].shape == tensor.shape
            }
            network.load_state_dict({**ours, **same})

    @property
    def networks(self) -> nn.ModuleDict:
        """The three networks by name."""
        return nn.ModuleDict({name: getattr(self, name) for name in NETWORKS})

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> dict[str, float]:
        """One generator and one discriminator step; returns the step's losses, and the mean sign of D(real)."""
        torch.manual_seed(derive("gan-step", self.config.seed, self.step))
        generator_loss = self.train_generator()
        discriminator_loss, sign = self.train_discriminator()
        if self.config.augment == "ada" and self.step % ADA_INTERVAL == 0:
            self.augment_p = adjust_probability(self.augment_p, sign, ADA_INTERVAL * self.config.batch_size)
        self.step += 1
        self.update_average()
        return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss, "real_sign": sign}

    def fake_batch(self) -> tuple[Tensor, Tensor | None]:
        """Generated images of the step, differentiable in the generator's weights, and their classes."""
        batch, mapping = self.config.batch_size, self.generator.mapping
        z = torch.randn(batch, self.config.z_dim, device=self.device)
        c = self.real.classes(batch)
        w = mapping(z, c)
        with torch.no_grad():
            mapping.w_avg.lerp_(w.detach().mean(dim=0), 1 - 0.995)
        ws = self.generator.broadcast(w)
        if self.config.style_mixing > 0 and torch.rand(()) < self.config.style_mixing:
            cut = int(torch.randint(1, ws.shape[1], ()))
            other = mapping(torch.randn_like(z), c)[:, None].expand_as(ws)
            ws = torch.cat([ws[:, :cut], other[:, cut:]], dim=1)
        return self.synthesis(ws, "random"), c

    def train_generator(self) -> float:
        """One step of the non-saturating loss ``softplus(-D(G(z)))``; returns it."""
        self.discriminator.requires_grad_(False)
        images, c = self.fake_batch()
        loss = F.softplus(-self.judge(augment(images, self.augment_p), c)).mean()
        self._apply("generator", loss)
        self.discriminator.requires_grad_(True)
        return float(loss.detach())

    def train_discriminator(self) -> tuple[float, float]:
        """One step of ``softplus(D(fake)) + softplus(-D(real))``; returns it and the mean sign of D(real)."""
        with torch.no_grad():
            fake, fake_c = self.fake_batch()
        real, real_c = self.real.batch(self.step)
        with torch.no_grad():
            both = augment(torch.cat([fake, real]), self.augment_p)
        c = None if fake_c is None or real_c is None else torch.cat([fake_c, real_c])
        on_fake, on_real = self.judge(both, c).chunk(2)
        loss = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
        self._apply("discriminator", loss)
        if self.step % self.config.r1_interval == 0:
            self._regularise(both[len(fake) :], real_c)
        return float(loss.detach()), float(on_real.detach().sign().mean())

    def _regularise(self, real: Tensor, c: Tensor | None) -> None:
        """R1 (Mescheder et al. 2018): gamma / 2 times the squared gradient of D at real images, in float32, uncompiled.

        The gradient is taken at the augmented image: sampling on a grid has no second derivative here.
        """
        dtype, self.discriminator.dtype = self.discriminator.dtype, torch.float32
        real = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.discriminator(real, c).sum(), real, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        self._apply("discriminator", penalty * (self.config.r1_gamma / 2 * self.config.r1_interval))
        self.discriminator.dtype = dtype

    def _apply(self, name: str, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            found = f"{name} loss is {float(loss.detach())} at image {self.images_seen:,}"
            raise diverged(self.config.out, found, WAY)
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def update_average(self) -> None:
        """EMA of the generator's weights; its buffers (w_avg, noise) are copied."""
        halflife = min(self.config.ema_halflife, max(self.images_seen, 1) * self.config.ema_rampup)
        beta = 0.5 ** (self.config.batch_size / max(halflife, 1e-8))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - beta)
        for averaged, current in zip(self.average.buffers(), self.generator.buffers()):
            averaged.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            **{name: getattr(self, name).state_dict() for name in NETWORKS},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "step": self.step,
            "augment_p": self.augment_p,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.step, self.augment_p = state["step"], state["augment_p"]


def read_networks(path: Path, device: torch.device) -> dict[str, dict[str, Tensor]]:
    """The networks' states in another run's checkpoint. Raises WeightsError if it is not a checkpoint of fit-gan."""
    try:
        state = read_state(path, device)
        whole = state.get("trainer", state)  # older files hold them at the top
        return {name: whole[name] for name in NETWORKS}
    except (ResumeError, *FAULTS) as error:
        raise WeightsError.naming("{init} {}: not a checkpoint of fit-gan ({})", path, reason_of(error)) from None
