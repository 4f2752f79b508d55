"""Linear classifiers on fixed features: SGD with momentum and a cosine, several learning rates side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from genrep.progress import Progress
from genrep.seeding import derive

from .config import LR_RULE

MOMENTUM = 0.9
FLOOR = 8e-3  # the cosine ends at this part of the rate (GenRep: decay rate 0.2, cubed)


def default_lr(features: Tensor) -> float:
    """A learning rate from the training features alone: ``LR_RULE`` over their mean squared length.

    The loss's curvature grows with the squared length, so this takes the same steps whatever the scale of an encoder's
    features is; a fixed rate (GenRep's 0.3 or 2, HL's 30) favours one scale. 64 is the best power of two for a random and
    a trained ResNet-18 on training images of Fashion-MNIST that were held out; 32 to 256 are within half a point.

    Shape: ``(N, D)``.
    """
    return LR_RULE / float(features.square().sum(dim=1).mean())


def cosine(epoch: int, epochs: int) -> float:
    """The part of the learning rate in this epoch, counted from 1 (GenRep's util.py).

    >>> [round(cosine(e, 4), 3) for e in (1, 2, 3, 4)]
    [0.855, 0.504, 0.153, 0.008]
    """
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@dataclass(frozen=True, kw_only=True)
class Split:
    """Features with labels. Shape: ``(N, D)`` float32, ``(N,)`` int64."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Test top-1 in percent after every epoch, for one learning rate."""

    lr: float
    top1: tuple[float, ...]

    @property
    def last(self) -> float:
        """The result: chosen before the test set was seen."""
        return self.top1[-1]

    @property
    def best(self) -> float:
        """The best epoch on the test set; to be shown beside the result only."""
        return max(self.top1)


def fit_linear(
    train: Split, test: Split, *, num_classes: int, lrs: tuple[float, ...], epochs: int, batch_size: int, seed: int
) -> list[Curve]:
    """Train one linear classifier per learning rate, all from the same initialisation on the same batches."""
    heads = Heads(train.features.shape[1], num_classes, lrs, seed, train.features.device)
    curves: list[list[float]] = [[] for _ in lrs]
    with Progress(epochs, "epoch", "linear probe") as progress:
        for epoch in range(1, epochs + 1):
            for rows in _batches(len(train), batch_size, seed, epoch):
                chosen = rows.to(train.features.device)
                heads.step(train.features[chosen], train.labels[chosen], cosine(epoch, epochs))
            for curve, top1 in zip(curves, heads.top1(test)):
                curve.append(top1)
            progress.update(1, top1=f"{curves[0][-1]:.2f}")
    return [Curve(lr=lr, top1=tuple(curve)) for lr, curve in zip(lrs, curves)]


class Heads:
    """G linear classifiers that see the same batches, and the momentum of their SGD.

    ``weight`` has shape ``(G, C, D)``, ``bias`` ``(G, C)``; all begin as the same ``nn.Linear``.
    """

    def __init__(self, dim: int, num_classes: int, lrs: tuple[float, ...], seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive("probe", seed))
            head = nn.Linear(dim, num_classes)
        self.weight = head.weight.detach().repeat(len(lrs), 1, 1).to(device)
        self.bias = head.bias.detach().repeat(len(lrs), 1).to(device)
        self.weight_momentum, self.bias_momentum = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.lrs = torch.tensor(lrs, device=device)

    def logits(self, features: Tensor) -> Tensor:
        """Shape: ``(B, D) -> (B, G, C)``."""
        flat = torch.addmm(self.bias.flatten(), features, self.weight.flatten(0, 1).T)
        return flat.view(len(features), *self.bias.shape)

    def step(self, features: Tensor, labels: Tensor, scale: float) -> None:
        """One step of SGD on each head's mean cross-entropy, at ``scale`` times its learning rate.

        The gradient by the logits is (softmax - one-hot) / B: written out, since autograd and an optimiser object cost
        more than the arithmetic here.
        """
        error = self.logits(features).softmax(dim=2)
        error[torch.arange(len(labels), device=labels.device), :, labels] -= 1
        error /= len(labels)
        self.weight_momentum.mul_(MOMENTUM).add_((error.flatten(1).T @ features).view_as(self.weight))
        self.bias_momentum.mul_(MOMENTUM).add_(error.sum(dim=0))
        rates = self.lrs * scale
        self.weight.sub_(rates[:, None, None] * self.weight_momentum)
        self.bias.sub_(rates[:, None] * self.bias_momentum)

    def top1(self, test: Split) -> list[float]:
        """Percentage of right answers of each head."""
        right = self.logits(test.features).argmax(dim=2) == test.labels[:, None]
        return [round(100 * value, 6) for value in right.double().mean(dim=0).tolist()]


def _batches(count: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Every row once, in an order that is a function of (seed, epoch); the last batch may be smaller."""
    key = derive("probe-order", seed, epoch)
    order = np.random.RandomState([key & 0xFFFFFFFF, key >> 32]).permutation(count)
    batches: tuple[Tensor, ...] = torch.from_numpy(order).split(batch_size)
    return batches
