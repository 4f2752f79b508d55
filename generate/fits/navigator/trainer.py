"""One step of COP-Gen's game: f minimises InfoNCE of (G(z), G(z + T(z))), T maximises it (Li et al. 2022, eq. 4).

Every random draw of a step is a function of (seed, number of the anchor), so a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrep.encoders import ARCHS, EMBEDDING_DIM, Projector, build_encoder
from genrep.encoders.devices import pick_precision
from genrep.infonce import info_nce
from genrep.seeding import derive

from ...views.navigator_network import Walk, new_walk
from ..records import Stopwatch
from ..source import Source
from .config import POLICIES, NavigatorConfig
from .losses import sup_con
from .pixels import PixelPolicy
from .scope import Scope
from .windows import Window

BETAS = (0.5, 0.999)


def build_estimator(config: NavigatorConfig) -> nn.Sequential:
    """f: a ResNet and its projector onto the unit sphere, fresh from the seed."""
    return nn.Sequential(
        build_encoder(config.arch, config.stem, config.seed),
        Projector(ARCHS[config.arch], EMBEDDING_DIM, config.seed),
    )


def build_policy(config: NavigatorConfig, source: Source) -> PixelPolicy:
    """T_x of a run, with its own streams."""
    shorter = min(source.pixel_shape)
    size = min(config.crop or shorter, shorter)
    return PixelPolicy(views=POLICIES[config.pixel_views], size=size, seed=derive("navigator-views", config.seed))


class NavigatorTrainer:
    """Owns T, f, their optimisers and the step counter of one run."""

    def __init__(self, config: NavigatorConfig, source: Source, scope: Scope) -> None:
        self.config, self.source, self.scope = config, source, scope
        self.device = source.device
        self.walk: Walk = new_walk(
            scope.dim,
            walk=config.walk,
            reduction=config.reduction,
            init=config.init,
            max_distance=config.max_distance,
            seed=config.seed,
        ).to(self.device)
        self.estimator = build_estimator(config).to(self.device).to(memory_format=torch.channels_last)
        self.policy = build_policy(config, source)
        self.precision = pick_precision(config.precision, self.device)
        self.optimisers = {
            "walk": torch.optim.Adam(self.walk.parameters(), lr=config.lr_walk, betas=BETAS, fused=True),
            "estimator": torch.optim.Adam(self.estimator.parameters(), lr=config.lr_f, betas=BETAS, fused=True),
        }
        self.step = 0
        self.window = Window(self.device)
        self.watch = Stopwatch(self.device)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def samples(self) -> int:
        """Anchors seen so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> None:
        """f's step on detached images, then T's against the updated f on the same images (papers' order)."""
        seed, batch = self.config.seed, self.config.batch_size
        torch.manual_seed(derive("navigator-step", seed, self.step))  # for generators with noise of their own
        indices = np.arange(self.samples, self.samples + batch, dtype=np.int64)
        anchors = self.source.anchors(derive("navigator", seed), indices)
        with self.watch.section("G"), torch.no_grad():
            first = self.source.to_pixels(self.source.images(anchors))
        shift = self.walk(self.scope.part(anchors.z))
        with self.watch.section("G"):
            positives = self.scope.positives(self.source, anchors, shift)
        # The gradient is taken in three parts, f, T_x and G, so that each is timed, and computed for nothing else:
        # neither f's weights nor G's get one in T's step.
        leaf = positives.detach().requires_grad_()
        views = self.policy(first, self.source.to_pixels(leaf), indices)
        with self.watch.section("f"):
            loss_f = self._train_estimator(views.detach(), anchors.labels)
            loss_t, at_views = self._judge(views.detach(), anchors.labels)
        (at_images,) = torch.autograd.grad(views, leaf, at_views)
        self.optimisers["walk"].zero_grad(set_to_none=True)
        with self.watch.section("G"):
            torch.autograd.backward(positives, -at_images.to(positives.dtype), inputs=list(self.walk.parameters()))
        self.optimisers["walk"].step()
        self.window.add(loss_f, loss_t, shift.detach())
        self.step += 1

    def loss(self, views: Tensor, labels: Tensor) -> Tensor:
        """f's loss on anchors and positives: InfoNCE, or SupCon. Shape: ``(2B, 3, S, S), (B,) -> ()``."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            anchor, positive = self.estimator(views).chunk(2)
        if self.config.supervised:
            return sup_con(anchor, positive, labels, self.config.temperature)
        return info_nce(anchor, positive, self.config.temperature)

    def _train_estimator(self, views: Tensor, labels: Tensor) -> Tensor:
        """One step of f down its loss; returns the loss before it."""
        loss = self.loss(views, labels)
        self.optimisers["estimator"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers["estimator"].step()
        return loss.detach()

    def _judge(self, views: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the f of now, and its gradient at the views."""
        views.requires_grad_()
        self.estimator.requires_grad_(False)
        loss = self.loss(views, labels)
        (gradient,) = torch.autograd.grad(loss, views)
        self.estimator.requires_grad_(True)
        return loss.detach(), gradient

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "walk": self.walk.state_dict(),
            "estimator": self.estimator.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "window": self.window.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.walk.load_state_dict(state["walk"])
        self.estimator.load_state_dict(state["estimator"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.window.load_state_dict(state["window"])
        self.step = state["step"]
