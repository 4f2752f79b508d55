"""An encoder with its classifier being trained end to end: SGD steps, their schedule, and the batches of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import Phrase, phrase
from genrep.runs.engine import Trainer
from genrep.runs.metrics import Line
from genrep.runs.sanity import diverged
from genrep.seeding import derive

from ..images import Feed, Stream
from .config import VISSL, FinetuneSettings


@dataclass
class Network:
    """An encoder with its classifier."""

    encoder: nn.Module
    head: nn.Linear

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [*self.encoder.parameters(), *self.head.parameters()]


def build_network(
    encoder: nn.Module, side: int, num_classes: int, seed: int, device: torch.device, law: FinetuneSettings = VISSL
) -> Network:
    """An encoder for images of this side, with a classifier that the seed decides. The encoder will be trained: give a copy."""
    encoder.to(device)
    encoder.to(memory_format=torch.channels_last)
    with torch.no_grad():
        dim = encoder.eval()(torch.zeros(1, 3, side, side, device=device)).shape[1]
    head = nn.Linear(dim, num_classes, device=device)
    generator = torch.Generator().manual_seed(derive("finetune-head", seed))
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * law.head_std)
        head.bias.zero_()
    for parameter in encoder.parameters():
        parameter.requires_grad_()
    return Network(encoder=encoder, head=head)


class FinetuneTrainer(Trainer):
    """Owns the network and its optimiser. The batches of an epoch are a function of (seed, epoch)."""

    counts = "epoch"

    def __init__(self, network: Network, feed: Feed, *, out: Path, epochs: int, lr: float) -> None:
        """``out``: for messages."""
        self.network, self.feed, self.out = network, feed, out
        self.epochs, self.lr = epochs, lr
        self.optimiser = self._optimiser()
        self.step = 0
        self.batches = Stream(feed)

    def _optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=self.lr, momentum=VISSL.momentum, nesterov=True)

    @property
    def way(self) -> Phrase:
        """Out of a training that has diverged."""
        return phrase("give a smaller {lr} than {:g}", self.lr)

    @property
    def position(self) -> int:
        """The epoch of the last step."""
        return self.feed.epoch(self.step - 1)

    def train_step(self) -> Mapping[str, Tensor]:
        """One step of SGD on the mean cross-entropy of a batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * VISSL.scale(self.feed.epoch(self.step), self.epochs)
        x, labels = self.batches.at(self.step)
        encoder, head = self.network.encoder, self.network.head
        encoder.train()
        self.optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(head(encoder(x.contiguous(memory_format=torch.channels_last))), labels)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return {"loss": loss.detach()}

    def finish(self) -> None:
        """Make the network the one that is tested, after the last step."""

    def alarm(self, line: Line) -> None:
        """A loss that is not finite."""
        if not math.isfinite(line["loss"]):
            raise diverged(self.out, f"the loss is not finite in epoch {self.position}", self.way)

    def weights(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        head = {f"head.{name}": value for name, value in self.network.head.state_dict().items()}
        return {**self.network.encoder.state_dict(), **head}

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "encoder": self.network.encoder.state_dict(),
            "head": self.network.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.network.encoder.load_state_dict(state["encoder"])
        self.network.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def close(self) -> None:
        """Let go of the threads that decode."""
        self.batches.close()
