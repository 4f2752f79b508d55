"""Linear heads that see the same batches, one for each learning rate: their SGD, and a rate that follows from features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.seeding import derive

from .config import LR_RULE
from .presets import LinearPreset

MOMENTUM = 0.9
NORMAL_STD = 0.01
BATCH_NORM_MOMENTUM = 0.1  # VISSL's default, which is torch's
TRUST = 0.001  # LARS's coefficient (You et al. 2017, as MoCo v3 and MAE have it)


def default_lr(features: Tensor) -> float:
    """A learning rate from the training features alone: ``LR_RULE`` over their mean squared length.

    The loss's curvature grows with the squared length, so this takes the same steps whatever the scale of an encoder's
    features is; a fixed rate (GenRep's 0.3 or 2, HL's 30) favours one scale. 64 is the best power of two for a random and
    a trained ResNet-18 on training images of Fashion-MNIST that were held out; 32 to 256 are within half a point.

    Shape: ``(N, D)``.

    Raises:
        TrainingError: all features are zero, or too large for float32.
    """
    length = mean_squared_length(features)
    if length == 0:
        raise TrainingError.naming(
            "all features are zero, so no {lr} can be derived from them: the encoder has collapsed"
        )
    return LR_RULE / length


def mean_squared_length(features: Tensor) -> float:
    """Shape: ``(N, D)``. Raises TrainingError if it is too large for float32."""
    length = sum(float(part.square().sum()) for part in features.split(65536)) / len(features)
    if length == float("inf"):
        raise TrainingError("the features are too large for float32: the encoder has diverged")
    return length


class Heads:
    """G linear classifiers, and the momentum of their SGD; all begin alike.

    ``weight`` has shape ``(G, C, D)``, ``bias`` ``(G, C)``. With ``batch_norm``, ``gain`` and ``shift`` ``(G, D)`` of each
    head's batch norm (unless it is without), and its running statistics, which all share: the features are the same.
    """

    def __init__(
        self, dim: int, num_classes: int, lrs: tuple[float, ...], seed: int, device: torch.device, preset: LinearPreset
    ) -> None:
        self.preset, self.device = preset, device
        weight, bias = _initial(dim, num_classes, seed, preset.normal_init)
        self.parameters = {
            "weight": weight.repeat(len(lrs), 1, 1).to(device),
            "bias": bias.repeat(len(lrs), 1).to(device),
        }
        if preset.batch_norm and preset.affine:
            self.parameters["gain"] = torch.ones(len(lrs), dim, device=device)
            self.parameters["shift"] = torch.zeros(len(lrs), dim, device=device)
        self.momenta = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.running = {"mean": torch.zeros(dim, device=device), "variance": torch.ones(dim, device=device)}
        self.lrs = torch.tensor(lrs, device=device)

    @property
    def classes(self) -> int:
        """Outputs of a head."""
        return self.parameters["bias"].shape[1]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that changes."""
        return {"parameters": self.parameters, "momenta": self.momenta, "running": self.running}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take over another's ``state``."""
        for name, tensors in self.state().items():
            for key, tensor in tensors.items():
                tensor.copy_(state[name][key])

    def logits(self, features: Tensor) -> Tensor:
        """In evaluation mode. Shape: ``(B, D) -> (B, G, C)``."""
        if self.preset.batch_norm:
            features = (features - self.running["mean"]) / (self.running["variance"] + self.preset.norm_eps).sqrt()
        return self._linear(features)

    def _linear(self, x: Tensor) -> Tensor:
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        if "gain" in self.parameters:  # its gain and shift belong to what follows
            bias = bias + torch.einsum("gcd,gd->gc", weight, self.parameters["shift"])
            weight = weight * self.parameters["gain"][:, None]
        return torch.addmm(bias.flatten(), x, weight.flatten(0, 1).T).view(len(x), *bias.shape)

    def _normalised(self, features: Tensor) -> Tensor:
        """Features normalised by the batch's own statistics, which the running ones follow."""
        variance, mean = torch.var_mean(features, dim=0, correction=0)
        count = len(features)
        self.running["mean"].lerp_(mean, BATCH_NORM_MOMENTUM)
        self.running["variance"].lerp_(variance * count / max(count - 1, 1), BATCH_NORM_MOMENTUM)
        return (features - mean) / (variance + self.preset.norm_eps).sqrt()

    def step(self, features: Tensor, labels: Tensor, scale: float) -> None:
        """One step of SGD on each head's mean cross-entropy, at ``scale`` times its learning rate.

        The gradient by the logits is (softmax - one-hot) / B: written out, since autograd and an optimiser object cost
        more than the arithmetic here.
        """
        x = self._normalised(features) if self.preset.batch_norm else features
        error = self._linear(x).softmax(dim=2)
        error[torch.arange(len(labels), device=labels.device), :, labels] -= 1
        error /= len(labels)
        by_weight = (error.flatten(1).T @ x).view_as(self.parameters["weight"])
        by_bias = error.sum(dim=0)
        gradients = {"weight": by_weight, "bias": by_bias}
        if "gain" in self.parameters:
            weight = self.parameters["weight"]
            gradients["gain"] = (weight * by_weight).sum(dim=1)
            gradients["shift"] = torch.einsum("gcd,gc->gd", weight, by_bias)
            gain, shift = self.parameters["gain"][:, None], self.parameters["shift"][:, None]
            gradients["weight"] = by_weight * gain + by_bias[:, :, None] * shift
        self._descend(gradients, self.lrs * scale)

    def _descend(self, gradients: dict[str, Tensor], rates: Tensor) -> None:
        """Weight decay is for the classifier, not for batch norm (VISSL: regularize_bn false)."""
        decay = self.preset.weight_decay
        for name, gradient in gradients.items():
            value, momentum = self.parameters[name], self.momenta[name]
            if decay and name in ("weight", "bias"):
                gradient = gradient + decay * value
            if self.preset.lars and name == "weight":
                gradient = gradient * trust(value, gradient)
            momentum.mul_(MOMENTUM).add_(gradient)
            direction = gradient + MOMENTUM * momentum if self.preset.nesterov else momentum
            value.sub_(rates.view(-1, *[1] * (value.dim() - 1)) * direction)


def trust(value: Tensor, gradient: Tensor) -> Tensor:
    """LARS's factor of each head's gradient: ``TRUST`` times its weights' norm over the gradient's; 1 where one is zero.

    Shape: ``(G, ...)`` both -> ``(G, 1, ...)``.
    """
    axes = tuple(range(1, value.dim()))
    ours, theirs = (torch.linalg.vector_norm(part, dim=axes, keepdim=True) for part in (value, gradient))
    return torch.where((ours > 0) & (theirs > 0), TRUST * ours / theirs, torch.ones_like(ours))


class GroupedHeads:
    """Heads that read different columns of the same features, and train on the same batches."""

    def __init__(self, groups: Sequence[tuple[slice, Heads]]) -> None:
        self.groups = tuple(groups)
        first = self.groups[0][1]
        self.preset, self.device, self.classes = first.preset, first.device, first.classes

    def state(self) -> dict[str, Any]:
        """Everything that changes."""
        return {str(number): heads.state() for number, (_, heads) in enumerate(self.groups)}

    def load(self, state: dict[str, Any]) -> None:
        """Take over another's ``state``."""
        for number, (_, heads) in enumerate(self.groups):
            heads.load(state[str(number)])

    def logits(self, features: Tensor) -> Tensor:
        """In evaluation mode, of all heads, group by group. Shape: ``(B, D) -> (B, G, C)``."""
        return torch.cat([heads.logits(features[:, columns]) for columns, heads in self.groups], dim=1)

    def logits_of(self, index: int) -> Callable[[Tensor], Tensor]:
        """The logits of one head alone. Shape: ``(B, D) -> (B, 1, C)``."""
        places = [(columns, heads, k) for columns, heads in self.groups for k in range(len(heads.lrs))]
        columns, heads, k = places[index]
        return lambda features: heads.logits(features[:, columns])[:, k : k + 1]

    def step(self, features: Tensor, labels: Tensor, scale: float) -> None:
        """One step of every head: see ``Heads``."""
        for columns, heads in self.groups:
            heads.step(features[:, columns], labels, scale)


def _initial(dim: int, num_classes: int, seed: int, normal: bool) -> tuple[Tensor, Tensor]:
    if normal:
        generator = torch.Generator().manual_seed(derive("probe", seed))
        return torch.randn(num_classes, dim, generator=generator) * NORMAL_STD, torch.zeros(num_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("probe", seed))
        head = nn.Linear(dim, num_classes)
    return head.weight.detach(), head.bias.detach()
