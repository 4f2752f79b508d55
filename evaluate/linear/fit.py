"""Linear heads that see the same batches, one for each learning rate: their SGD, and the accuracies of several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.progress import Progress
from genrep.runs.checkpoints import Checkpoints
from genrep.seeding import derive

from .config import LR_RULE, PRESETS, Preset

TOP5_CLASSES = 6  # with fewer, five guesses are all or all but none
MOMENTUM = 0.9
NORMAL_STD = 0.01
BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-5, 0.1  # VISSL's defaults, which are torch's
TEST_BATCH = 8192
Feed = Callable[[int], Iterator[tuple[Tensor, Tensor]]]  # the batches of an epoch: features and labels on the device


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
        raise TrainingError("the features are all zero, from which no --lr follows: the encoder has collapsed")
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
    head's batch norm, and its running statistics, which all share: the features are the same.
    """

    def __init__(
        self, dim: int, num_classes: int, lrs: tuple[float, ...], seed: int, device: torch.device, preset: Preset
    ) -> None:
        self.preset, self.device = preset, device
        weight, bias = _initial(dim, num_classes, seed, preset.normal_init)
        self.parameters = {
            "weight": weight.repeat(len(lrs), 1, 1).to(device),
            "bias": bias.repeat(len(lrs), 1).to(device),
        }
        if preset.batch_norm:
            self.parameters["gain"] = torch.ones(len(lrs), dim, device=device)
            self.parameters["shift"] = torch.zeros(len(lrs), dim, device=device)
        self.momenta = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.running = {"mean": torch.zeros(dim, device=device), "variance": torch.ones(dim, device=device)}
        self.lrs = torch.tensor(lrs, device=device)

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
            features = (features - self.running["mean"]) / (self.running["variance"] + BATCH_NORM_EPS).sqrt()
        return self._linear(features)

    def _linear(self, x: Tensor) -> Tensor:
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        if self.preset.batch_norm:  # its gain and shift belong to what follows
            bias = bias + torch.einsum("gcd,gd->gc", weight, self.parameters["shift"])
            weight = weight * self.parameters["gain"][:, None]
        return torch.addmm(bias.flatten(), x, weight.flatten(0, 1).T).view(len(x), *bias.shape)

    def _normalised(self, features: Tensor) -> Tensor:
        """By the batch's own statistics, which the running ones follow."""
        variance, mean = torch.var_mean(features, dim=0, correction=0)
        count = len(features)
        self.running["mean"].lerp_(mean, BATCH_NORM_MOMENTUM)
        self.running["variance"].lerp_(variance * count / max(count - 1, 1), BATCH_NORM_MOMENTUM)
        return (features - mean) / (variance + BATCH_NORM_EPS).sqrt()

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
        if self.preset.batch_norm:
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
            momentum.mul_(MOMENTUM).add_(gradient)
            direction = gradient + MOMENTUM * momentum if self.preset.nesterov else momentum
            value.sub_(rates.view(-1, *[1] * (value.dim() - 1)) * direction)


def _initial(dim: int, num_classes: int, seed: int, normal: bool) -> tuple[Tensor, Tensor]:
    if normal:
        generator = torch.Generator().manual_seed(derive("probe", seed))
        return torch.randn(num_classes, dim, generator=generator) * NORMAL_STD, torch.zeros(num_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("probe", seed))
        head = nn.Linear(dim, num_classes)
    return head.weight.detach(), head.bias.detach()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Features with labels. Shape: ``(N, D)`` float32, ``(N,)`` int64."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """On the device if half of its free memory holds the features; else as it is."""
        if device.type == "cuda" and self.features.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        return Split(features=self.features.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Scores on the test images after every epoch, for one learning rate."""

    lr: float
    scores: tuple[Score, ...]

    @property
    def last(self) -> Score:
        """The result: chosen before the test set was seen."""
        return self.scores[-1]

    def best(self, metric: str) -> float:
        """The best epoch on the test set; to be shown beside the result only."""
        return max(score.value(metric) for score in self.scores)


def fit_linear(
    train: Split,
    test: Split,
    *,
    num_classes: int,
    lrs: tuple[float, ...],
    epochs: int,
    batch_size: int,
    seed: int,
    preset: Preset = PRESETS["frozen"],
    device: torch.device | None = None,
) -> list[Curve]:
    """Train one linear classifier per learning rate, all from the same initialisation on the same batches."""
    device = device or train.features.device
    train = train.to(device)
    heads = Heads(train.features.shape[1], num_classes, lrs, seed, device, preset)
    return fit_heads(heads, fixed_feed(train, batch_size, seed, device), test, lrs=lrs, epochs=epochs)


def fixed_feed(train: Split, batch_size: int, seed: int, device: torch.device) -> Feed:
    """Batches of fixed features."""

    def feed(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in batches(len(train), batch_size, seed, epoch):
            chosen = rows.to(train.features.device)
            yield train.features[chosen].to(device), train.labels[chosen].to(device)

    return feed


def fit_heads(
    heads: Heads,
    feed: Feed,
    test: Split,
    *,
    lrs: tuple[float, ...],
    epochs: int,
    checkpoint: Checkpoints | None = None,
    label: str = "linear probe",
) -> list[Curve]:
    """Train until the last epoch, from the checkpoint if there is one.

    Raises:
        TrainingError: a classifier has diverged.
        ResumeError: the checkpoint is of another version.
    """
    advice = [f"give a smaller --lr than {lr:g}" for lr in lrs]
    classes = heads.parameters["bias"].shape[1]
    scores: list[list[Score]] = []  # by epoch, then head
    if checkpoint is not None:
        with checkpoint.open(heads.device) as state:
            if state is not None:
                heads.load(state["heads"])
                scores = [[Score(**score) for score in row] for row in state["scores"]]
    test = test.to(heads.device)
    with Progress(epochs, "epoch", label, initial=len(scores)) as progress:
        for epoch in range(len(scores) + 1, epochs + 1):
            scale = heads.preset.scale(epoch, epochs)
            for features, labels in feed(epoch):
                heads.step(features, labels, scale)
            scores.append(evaluate_heads(heads.logits, test, len(lrs), classes, heads.device, advice))
            if checkpoint is not None:
                told = [[asdict(score) for score in row] for row in scores]
                checkpoint.write(epoch, {"heads": heads.state(), "scores": told})
            progress.update(1, top1=f"{scores[-1][0].top1:.2f}")
    return [Curve(lr=lr, scores=tuple(row[g] for row in scores)) for g, lr in enumerate(lrs)]


def evaluate_heads(
    logits: Callable[[Tensor], Tensor],
    test: Split,
    heads: int,
    classes: int,
    device: torch.device,
    advice: Sequence[str] = (),
) -> list[Score]:
    """Scores of classifiers whose logits have the shape ``(B, heads, classes)``; ``advice`` as of ``Tally.scores``."""
    tally = Tally(classes, heads)
    for features, labels in zip(test.features.split(TEST_BATCH), test.labels.split(TEST_BATCH)):
        tally.add(logits(features.to(device)), labels.to(device))
    return tally.scores(advice)


def batches(count: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Every row once, in an order that is a function of (seed, epoch); the last batch may be smaller."""
    key = derive("probe-order", seed, epoch)
    order = np.random.RandomState([key & 0xFFFFFFFF, key >> 32]).permutation(count)
    found: tuple[Tensor, ...] = torch.from_numpy(order).split(batch_size)
    return found


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of one classifier, in percent."""

    top1: float
    top5: float | None  # None: fewer than six classes
    mean_per_class: float  # the mean of the classes' top-1

    def value(self, metric: str) -> float:
        """The one that the protocol reports."""
        return self.mean_per_class if metric == "mean per class" else self.top1


class Tally:
    """Counts right answers batch by batch.

    >>> tally = Tally(classes=2, heads=1)
    >>> tally.add(torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]]), torch.tensor([1, 0]))
    >>> tally.scores()[0].top1
    50.0
    """

    def __init__(self, classes: int, heads: int) -> None:
        self.classes, self.heads = classes, heads
        self._right = torch.zeros(heads, classes, dtype=torch.int64)
        self._right5 = torch.zeros(heads, dtype=torch.int64)
        self._counts = torch.zeros(classes, dtype=torch.int64)
        self._finite = torch.ones(heads, dtype=torch.bool)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Shape: ``(B, heads, classes)``, ``(B,)`` on one device."""
        if self._counts.device != labels.device:
            moved = (t.to(labels.device) for t in (self._right, self._right5, self._counts, self._finite))
            self._right, self._right5, self._counts, self._finite = moved
        self._finite &= logits.isfinite().all(dim=2).all(dim=0)
        self._counts += torch.bincount(labels, minlength=self.classes)
        right = logits.argmax(dim=2) == labels[:, None]
        self._right.index_add_(1, labels, right.T.to(torch.int64))
        if self.classes >= TOP5_CLASSES:
            best = logits.topk(5, dim=2).indices == labels[:, None, None]
            self._right5 += best.any(dim=2).sum(dim=0)

    def scores(self, advice: Sequence[str] = ()) -> list[Score]:
        """Of each classifier; classes without an image do not count.

        Raises:
            TrainingError: one's outputs are not finite, so that its guesses mean nothing; with the advice for it.
        """
        for g, finite in enumerate(self._finite.tolist()):
            if not finite:
                raise TrainingError("; ".join(["the classifier's outputs are not finite", *advice[g : g + 1]]))
        there = self._counts > 0
        total = int(self._counts.sum())
        per_class = (self._right[:, there].double() / self._counts[there]).mean(dim=1).tolist()
        top1, top5 = self._right.sum(dim=1).tolist(), self._right5.tolist()
        return [
            Score(
                top1=round(100 * top1[g] / total, 6),
                top5=round(100 * top5[g] / total, 6) if self.classes >= TOP5_CLASSES else None,
                mean_per_class=round(100 * per_class[g], 6),
            )
            for g in range(self.heads)
        ]
