"""The networks, their optimiser and one step of SimCLR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrep.encoders import ARCHS, EMBEDDING_DIM, Projector, build_encoder
from genrep.infonce import info_nce, relative_std
from genrep.pixel_views import PIXEL_VIEWS
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw

from .plan import Plan
from .schedule import learning_rate


class Trainer:
    """Owns what a step changes. Every random draw of a step is a function of (seed, epoch, index, view)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = torch.device(plan.device)
        self.encoder = build_encoder(plan.arch, plan.stem, plan.seed)
        self.projector = Projector(ARCHS[plan.arch], EMBEDDING_DIM, plan.seed)
        self.model = nn.Sequential(self.encoder, self.projector).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(), lr=plan.lr_scaled, momentum=plan.momentum, weight_decay=plan.weight_decay
        )
        self.views = PIXEL_VIEWS[plan.pixel_views]
        self.step = 0
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def lr(self) -> float:
        """The rate of the step to come."""
        plan = self.plan
        return learning_rate(
            self.step, peak=plan.lr_scaled, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a step needs of a batch."""
        return ("anchor", "index") if self.plan.positive == "anchor" else ("anchor", "positive", "index")

    def two_views(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """The network's input: view 0 of every anchor, then view 1 of every positive.

        Shape: ``(B, H, W, 3)`` each -> ``(2B, 3, crop, crop)``.
        """
        first = batch["anchor"].to(self.device, non_blocking=True)
        second = first if self.plan.positive == "anchor" else batch["positive"].to(self.device, non_blocking=True)
        index = batch["index"].numpy()
        parameters = draw(
            self.views,
            seed=self.plan.seed,
            epoch=epoch,
            index=np.concatenate([index, index]),
            view=np.repeat([0, 1], len(index)),
            image_shape=self.plan.image_shape,
            size=self.plan.crop,
        )
        return apply_views(torch.cat([first, second]), parameters, self.plan.crop, self.plan.mean, self.plan.std)

    def train_step(self, batch: dict[str, Tensor], epoch: int) -> tuple[Tensor, Tensor]:
        """One update; returns the loss and the embeddings' relative std, on the device."""
        images = self.two_views(batch, epoch)
        self.optimiser.param_groups[0]["lr"] = self.lr
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.plan.precision == "bf16"):
            embeddings = self.model(images)
        anchor, positive = embeddings.chunk(2)
        loss = info_nce(anchor, positive, self.plan.temperature)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.detach(), relative_std(anchor)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
