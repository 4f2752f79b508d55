"""Epochs of SGD on linear heads, from fixed features or through a frozen encoder under augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from genrep.progress import Progress
from genrep.seeding import derive

from ..checkpoints import Checkpoint
from ..metrics import Score, Tally
from .heads import Heads
from .presets import PRESETS, Preset

TEST_BATCH = 8192
Feed = Callable[[int], Iterator[tuple[Tensor, Tensor]]]  # the batches of an epoch: features and labels on the device


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
    checkpoint: Checkpoint | None = None,
    label: str = "linear probe",
) -> list[Curve]:
    """Train until the last epoch, from the checkpoint if there is one.

    Raises:
        TrainingError: a classifier has diverged.
    """
    advice = [f"give a smaller --lr than {lr:g}" for lr in lrs]
    classes = heads.parameters["bias"].shape[1]
    scores: list[list[Score]] = []  # by epoch, then head
    state = checkpoint.read(heads.device) if checkpoint is not None else None
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
                checkpoint.write({"epoch": epoch, "heads": heads.state(), "scores": told})
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
