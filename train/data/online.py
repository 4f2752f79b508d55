"""Batches of pairs from a generator, behind the interface of ``PairLoader``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.across import OnlineSource
from genrep.errors import RecipeError, ResumeError, one_of
from genrep.seeding import derive

from .order import share, stream
from .outputs import families, is_read
from .sets import POSITIVES

Batch = dict[str, Tensor]


class OnlineLoader:
    """Iterates pairs that a generator makes on its device, none of them twice (HL §4.1).

    ``index`` counts the samples of the whole run: step s of an epoch e holds ``(e · steps_per_epoch + s) · batch_size`` and
    those that follow, of which ranks take consecutive parts. So a sample is a function of its step and place: ranks never see
    the same one, and any number of ranks, before and after a resume, sees the same ones. Where prompts or real anchors are
    taken in turn, as they stand in their file or folder, each turn has an order of its own: a batch would be of one class else.

    Args:
        source: see ``genrep.across.open_online``.
        batch_size: samples of a step, over all ranks; a multiple of ``world_size``.
        steps_per_epoch: steps that count as an epoch.
        seed: of the order of prompts and real anchors.
        fields: those to make; None: all. Positives that are not among them are not generated.
        positive: as in ``PairLoader``: ``stored`` and ``random`` are the first of an anchor's positives (no sample comes
            twice, so that every positive is new), ``all`` all K, shapes ``(B, K, …)``; ``anchor``: none are generated.
        rank, world_size: this process's part of each step.

    Raises:
        RecipeError: the source makes no such field.
        ValueError: an argument, named in the message.
    """

    def __init__(
        self,
        source: OnlineSource,
        *,
        batch_size: int,
        steps_per_epoch: int,
        seed: int = 0,
        fields: Sequence[str] | None = None,
        positive: str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank}: wanted 0 to {world_size - 1}")
        if batch_size < 1 or batch_size % world_size:
            wanted = "at least 1" if world_size == 1 else f"a multiple of {world_size}, the number of ranks"
            raise ValueError(f"batch_size {batch_size}: wanted {wanted}")
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch {steps_per_epoch}: wanted at least 1")
        self.source, self.batch_size, self.steps_per_epoch = source, batch_size, steps_per_epoch
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self._turn: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))  # the last one's number and order
        self._made = _made_of(source, fields, positive)
        self.fields = tuple(self._made)
        self.epoch = 0
        self.position = 0  # samples of the epoch that have been given out, over all ranks

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.steps_per_epoch

    def indices(self, epoch: int, position: int) -> NDArray[np.int64]:
        """This rank's samples of the step that begins at a position of an epoch. Shape: ``(batch_size / world_size,)``."""
        first = epoch * self.steps_per_epoch * self.batch_size + position
        part = share(self.batch_size, self.rank, self.world_size)
        return self._shuffled(np.arange(first + part.start, first + part.stop, dtype=np.int64))

    def _shuffled(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The indices of consecutive samples: themselves, or in each turn's own order."""
        if (size := self.source.turn) < 2:
            return samples
        turns, places = np.divmod(samples, size)
        shuffled = samples.copy()
        for turn in np.unique(turns).tolist():
            if self._turn[0] != turn:
                self._turn = (turn, stream(derive("order-of-turn", self.seed, turn)).permutation(size).astype(np.int64))
            inside = turns == turn
            shuffled[inside] = turn * size + self._turn[1][places[inside]]
        return shuffled

    def __iter__(self) -> Iterator[Batch]:
        epoch, samples = self.epoch, self.steps_per_epoch * self.batch_size
        starts = range(self.position, samples, self.batch_size)
        made = [name for names, _ in self._made.values() for name in names]
        steps = (self.indices(epoch, start) for start in starts)
        with closing(self.source.batches(steps, made)) as batches:
            for start, batch in zip(starts, batches):
                self.epoch, self.position = divmod(epoch * samples + start + self.batch_size, samples)
                yield {name: self._tensor(name, batch) for name in self.fields}
        self.source.check()

    def _tensor(self, name: str, batch: Batch) -> Tensor:
        names, stacked = self._made[name]
        return torch.stack([batch[one] for one in names], dim=1) if stacked else batch[names[0]]

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and what it is a cursor into. The same on every rank.

        Raises:
            GeneratorError: an image made so far is faulty, so there is nothing to resume from.
        """
        self.source.check()
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """Everything that the samples and their epochs are a function of."""
        return {
            "source": self.source.identity,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            **({"seed": self.seed} if self.source.turn > 1 else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a cursor. Raises ResumeError if it belongs to another source or to other epochs."""
        for name, ours in self._identity().items():
            if state.get(name) != ours:
                raise ResumeError(f"loader state: {name} is {state.get(name)!r}, this loader's is {ours!r}")
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


def _made_of(
    source: OnlineSource, fields: Sequence[str] | None, positive: str | None
) -> dict[str, tuple[tuple[str, ...], bool]]:
    """For each field of a batch the source's fields that it is made of, and whether these are stacked."""
    if positive not in (None, *POSITIVES):
        raise ValueError(f"positive {positive!r}: wanted one of {one_of(positive, POSITIVES)}")
    of_positives = families(source.fields, source.num_positives)
    if fields is None:
        fields = [name for name in source.fields if positive is None or is_read(name, positive, of_positives)]
    made = {}
    for name in fields:
        if name not in source.fields:
            raise RecipeError.naming("{views}: give no field {!r}; there are {}", name, ", ".join(source.fields))
        if positive == "anchor" and name in of_positives:
            raise ValueError(f"positive='anchor': the field {name!r} is not made")
        stacked = positive == "all" and name in of_positives
        made[name] = (of_positives[name] if stacked else (name,), stacked)
    return made
