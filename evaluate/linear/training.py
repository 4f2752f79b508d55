"""Linear heads being trained: their steps, the batches of an epoch, and their scores on the test images after each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.errors import phrase
from genrep.features import FrozenEncoder
from genrep.runs.engine import Course, Pace, Trainer
from genrep.runs.metrics import Line

from ..images import AugmentedBatches, Feed, Stream
from .heads import GroupedHeads, Heads
from .scores import Features, Score, evaluate_heads


@dataclass(frozen=True, kw_only=True)
class HeadCurve:
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


def fixed_feed(train: Features, batch_size: int, seed: int, device: torch.device, *, whole: bool = False) -> Feed:
    """Batches of fixed features."""

    def features(epoch: int, batches: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in batches:
            chosen = rows.to(train.features.device)
            yield train.features[chosen].to(device), train.labels[chosen].to(device)

    return Feed(load=features, images=len(train), batch_size=batch_size, seed=seed, whole=whole)


def augmented_feed(views: AugmentedBatches, frozen: FrozenEncoder, batch_size: int, *, seed: int, whole: bool) -> Feed:
    """Batches of the features of random views, which pass through the encoder in pieces that it takes."""

    def features(epoch: int, batches: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        pieces = [rows.split(frozen.batch_size) for rows in batches]
        found = views(epoch, tuple(piece for rows in pieces for piece in rows))
        for rows in pieces:
            parts = [(frozen.of_normalised(x), labels) for x, labels in islice(found, len(rows))]
            yield torch.cat([part for part, _ in parts]), torch.cat([labels for _, labels in parts])

    return Feed(load=features, images=len(views.data), batch_size=batch_size, seed=seed, whole=whole)


class HeadsTrainer(Trainer):
    """Owns the heads and their scores. The batches of a pass are a function of (seed, pass)."""

    counts = "epoch"

    def __init__(
        self,
        heads: Heads | GroupedHeads,
        feed: Feed,
        test: Features,
        *,
        lrs: tuple[float, ...],
        epochs: int,
        epoch_length: int | None = None,
        choosing: bool = False,
    ) -> None:
        """Take what is given.

        Args:
            test: images that are scored after every epoch; of heads to choose among, held-out training images.
            lrs: of each head.
            epoch_length: updates; None: a pass.
            choosing: a head that has diverged has none right, in place of an error.
        """
        self.heads, self.feed, self.test = heads, feed, test.to(heads.device)
        self.lrs, self.epochs, self.choosing = lrs, epochs, choosing
        self.per_epoch = epoch_length or feed.per_epoch
        self.step = 0
        self.scores: list[list[Score]] = []  # by epoch, then head
        self.batches = Stream(feed)

    @property
    def position(self) -> int:
        """The epoch of the last step."""
        return (self.step - 1) // self.per_epoch + 1

    def train_step(self) -> Mapping[str, Tensor]:
        """Take one step of every head on a batch. Nothing is measured here; the test images are scored after the epoch."""
        scale = self.heads.preset.scale_at(self.step, self.per_epoch, self.epochs)
        self.heads.step(*self.batches.at(self.step), scale)
        self.step += 1
        return {}

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """The epoch's scores. Raises TrainingError if a head has diverged."""
        advice = [phrase("give a smaller {lr} than {:g}", lr) for lr in self.lrs]
        heads, count = self.heads, len(self.lrs)
        found = evaluate_heads(
            heads.logits, self.test, count, heads.classes, heads.device, advice, lenient=self.choosing
        )
        self.scores.append(found)
        return {"epoch": self.position, "top1": max(score.top1 for score in found) if self.choosing else found[0].top1}

    @property
    def curves(self) -> list[HeadCurve]:
        """The scores, by head."""
        return [HeadCurve(lr=lr, scores=tuple(row[g] for row in self.scores)) for g, lr in enumerate(self.lrs)]

    def weights(self) -> Mapping[str, Tensor]:
        """None. A probe's weights grow as features shrink, so divergence is seen by the outputs instead."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        told = [[asdict(score) for score in row] for row in self.scores]
        return {"heads": self.heads.state(), "scores": told, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.heads.load(state["heads"])
        self.scores = [[Score(**score) for score in row] for row in state["scores"]]
        self.step = state["step"]

    def close(self) -> None:
        """Let go of the threads that decode."""
        self.batches.close()


def course_of(trainer: HeadsTrainer, out: Path, identity: Mapping[str, Any] | None) -> Course:
    """The course of the epochs. ``identity`` is the identity of the checkpoints after each epoch; None writes none."""
    per_epoch = trainer.per_epoch
    return Course(
        out=out,
        passing=True,
        label="linear probe",
        unit="epoch",
        total=trainer.epochs * per_epoch,
        shown_every=per_epoch,
        batch_size=trainer.feed.batch_size,
        smaller=phrase("try a smaller one"),
        identity=identity or {},
        lines=(per_epoch,),
        losses=(),  # the scores say it
        checkpoint_every=None if identity is None else per_epoch,
        shown={"top1": ".2f"},
    )
