"""The training of MAE's and SynCLR's fine-tuning: AdamW with a rate for each layer, mixed images, drop path, an average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrep.encoders.layers import layers_above
from genrep.encoders.networks import Encoder

from ..images import Feed
from .config import FinetuneSettings
from .mixing import add_drop_path, draw_paths, mixed
from .training import FinetuneTrainer, Network

BETAS = (0.9, 0.999)
UNDECAYED = ("cls_token", "pos_embed", "reg_token")  # besides vectors


def pooled_by(encoder: nn.Module, law: FinetuneSettings, asked: str | None) -> str | None:
    """How a law pools a vision transformer; None: as it is, which was asked for, or another network."""
    there = isinstance(encoder, Encoder) and hasattr(encoder, "pool")
    if asked is not None or not there or (law.pool == "cls" and not encoder.has_class_token):
        return None
    return law.pool


def repool(encoder: Any, law: FinetuneSettings, asked: str | None) -> None:
    """Pool as the law has it; with a new norm behind the mean of the patches in place of the last one."""
    way = pooled_by(encoder, law, asked)
    if way is None:
        return
    encoder.pool(way)
    if law.new_norm:
        encoder.norm = nn.Identity()
        encoder.fc_norm = nn.LayerNorm(encoder.embed_dim, eps=1e-6)


def groups(network: Network, law: FinetuneSettings) -> list[dict[str, Any]]:
    """The parameters by their part of the rate and their weight decay. The classifier is of the highest layer."""
    above = layers_above(network.encoder)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    named = [(above[name], name, one) for name, one in network.encoder.named_parameters()]
    named += [(0, name, one) for name, one in network.head.named_parameters()]
    for layers, name, parameter in named:
        found.setdefault((layers, parameter.ndim > 1 and name not in UNDECAYED), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": law.weight_decay if decayed else 0.0,
            "lr_scale": law.layer_decay**layers,
        }
        for (layers, decayed), parameters in sorted(found.items(), key=lambda item: item[0])
    ]


class StrongTrainer(FinetuneTrainer):
    """Owns the network, its optimiser and its average. Draws are functions of (seed, epoch, image) or of (seed, step)."""

    def __init__(
        self,
        network: Network,
        feed: Feed,
        *,
        out: Path,
        epochs: int,
        lr: float,
        law: FinetuneSettings,
        seed: int,
    ) -> None:
        self.law, self.seed = law, seed
        self.paths = add_drop_path(network.encoder, law.drop_path)
        super().__init__(network, feed, out=out, epochs=epochs, lr=lr)
        self.average = {name: value.clone() for name, value in self._state()} if law.average else None

    def _optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups(self.network, self.law), lr=self.lr, betas=BETAS)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for part, module in (("encoder", self.network.encoder), ("head", self.network.head)):
            for name, value in module.state_dict().items():
                yield f"{part}.{name}", value

    def train_step(self) -> Mapping[str, Tensor]:
        """One step of AdamW on the mean cross-entropy with soft labels."""
        rate = self.law.rate(self.step, self.feed.per_epoch, self.epochs, self.lr)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        x, labels = self.batches.at(self.step)
        encoder, head = self.network.encoder, self.network.head
        x, wanted = mixed(x, labels, head.out_features, self.law, seed=self.seed, step=self.step)
        draw_paths(self.paths, len(x), seed=self.seed, step=self.step)
        encoder.train()
        self.optimiser.zero_grad(set_to_none=True)
        logits = head(encoder(x.contiguous(memory_format=torch.channels_last)))
        loss = -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()
        loss.backward()
        self.optimiser.step()
        self._follow()
        self.step += 1
        return {"loss": loss.detach()}

    @torch.no_grad()
    def _follow(self) -> None:
        if self.average is None:
            return
        for name, value in self._state():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - self.law.average)
            else:
                self.average[name].copy_(value)

    def finish(self) -> None:
        """Put the average in the weights' place."""
        if self.average is not None:
            for name, value in self._state():  # which are the networks' own tensors
                value.copy_(self.average[name])

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {**super().state_dict(), **({} if self.average is None else {"average": self.average})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        super().load_state_dict(state)
        if self.average is not None:
            for name, value in state["average"].items():
                self.average[name].copy_(value)
