"""Filtered pairs: candidates are scored block by block, and each pair is made from one of those that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from genrep.errors import GeneratorError, WeightsError, phrase

from ..generators.calls import synthesize
from ..generators.probe import check_images, largest_values, require_sane
from ..pixels import to_uint8
from ..views.filters import Blocks
from .base import Batch, OutOfMemoryError, one_ahead
from .pairs import Copier, Pending, synthesis_faults

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from ..views.filters import Filter
    from .pairs import PairSource

LARGEST_CANDIDATES = 64  # candidates that are made and scored at a time
CANDIDATE_PIXELS = 1 << 22  # most pixels of these together: 64 images of 256x256, 16 of 512x512
MAX_REMEMBERED = 1024  # blocks whose choice is kept: a few KB each, so that shards that share one judge it once


@dataclass(frozen=True, kw_only=True)
class _Judging:
    """A block in progress on the device."""

    candidates: NDArray[np.int64]  # (M,)
    log_odds: Tensor  # (M,), on their way to the host
    largest: Tensor  # (M,)
    done: torch.cuda.Event | None


class FilteredSource:
    """Gives the pairs of a source whose anchors a filter scores highest; a ``Source`` like the one that it wraps.

    Only the anchor is judged: a positive follows its anchor. The images that are judged are made in batches of one size and one
    content per block, whatever ``batch_size`` says, and judged in the same batches in evaluation mode: neither the size of a
    batch nor a shard's limits can turn a close decision. Another kind of device may, by its rounding.
    """

    def __init__(self, source: PairSource, filter: Filter) -> None:
        self.source, self.filter = source, filter
        self.blocks = Blocks(keep=filter.keep, conditions=max(1, len(source.conditions.choices)))
        height, width = source.generator.image_shape
        self.candidate_batch = max(1, min(LARGEST_CANDIDATES, CANDIDATE_PIXELS // (height * width)))
        self.copier = Copier(source.device)  # a stream beside that of the pairs: scores do not queue behind images
        self.too_many_candidates = False  # whether it was the candidates that did not fit on the device
        self.begun: dict[int, _Judging] = {}
        self.chosen: dict[int, NDArray[np.int64]] = {}  # by block: the candidate of each of its pairs

    @property
    def batch_size(self) -> int:
        """Pairs of a batch: see ``Source.batch_size``."""
        return self.source.batch_size

    def set_batch_size(self, size: int) -> None:
        """See ``LaunchSource.set_batch_size``: of the pairs; candidates keep theirs."""
        self.source.set_batch_size(size)

    def halve_batch(self) -> None:
        """Go on with half the batch size: of the candidates, if these were too many, else of the pairs.

        Candidates in smaller batches than the fixed one are for devices that hold no others; there rounding may decide
        otherwise between two scores that are as good as equal.
        """
        if self.too_many_candidates and self.candidate_batch > 1:
            self.candidate_batch //= 2
        else:
            self.source.halve_batch()
        self.too_many_candidates = False

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source.batches``."""
        return one_ahead(self.launch(indices) for indices in self.ranges(first, count))

    def ranges(self, first: int, count: int) -> Iterator[NDArray[np.int64]]:
        """Indices of the batches that a range is made in; only the last may be shorter.

        The candidates of a batch and of the one after it are given to the device first, so that it is at work on pairs
        while the host waits for scores.
        """
        last = first + count - 1
        for indices in self.source.ranges(first, count):
            for block in range(
                indices[0] // self.blocks.pairs, self._block_of(indices[-1] + self.batch_size, last) + 1
            ):
                self._begin(block)
            yield indices

    def _block_of(self, index: int, last: int) -> int:
        return int(min(index, last)) // self.blocks.pairs

    def launch(self, indices: NDArray[np.int64]) -> _Numbered:
        """Begin the batch of these pairs on the device, without waiting for it; waits for the scores of their blocks."""
        with _numbers_of_candidates():
            return _Numbered(self.source.launch(self.candidates(indices)), indices)

    def candidates(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The candidates that became these pairs; those of several blocks are judged together. Shape: ``(B,) -> (B,)``."""
        blocks, places = np.divmod(indices, self.blocks.pairs)
        found = np.unique(blocks).tolist()
        for block in found:
            self._begin(block)
        chosen = np.empty_like(indices)
        for block in found:
            inside = blocks == block
            chosen[inside] = self.choice(block)[places[inside]]
        return chosen

    def choice(self, block: int) -> NDArray[np.int64]:
        """The candidate of each pair of a block. Shape: ``(pairs,)``.

        Raises:
            GeneratorError: a candidate is no sane image; names it.
            WeightsError: the filter's score of one is not a number.
        """
        if block not in self.chosen:
            self._begin(block)
            scores = self._wait(self.begun[block])
            del self.begun[block]
            while len(self.chosen) >= MAX_REMEMBERED:
                del self.chosen[next(iter(self.chosen))]
            self.chosen[block] = self.blocks.select(block, scores.reshape(self.blocks.drawn, -1))
        return self.chosen[block]

    def _begin(self, block: int) -> None:
        """Queue the candidates of a block on the device, unless that has been done."""
        import torch

        if block in self.chosen or block in self.begun:
            return
        candidates, size = self.blocks.candidates(block).ravel(), self.candidate_batch
        judged = [self._judge(candidates[start : start + size]) for start in range(0, len(candidates), size)]
        log_odds, largest = (self.copier.to_host(torch.cat(column)) for column in zip(*judged))
        done = self.copier.event()
        self.begun[block] = _Judging(candidates=candidates, log_odds=log_odds, largest=largest, done=done)

    def _judge(self, candidates: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Log-odds and largest values of the anchors of up to a batch of candidates. Shape: ``(B,) -> (B,), (B,)``."""
        import torch

        from genrep.devices import to_device

        source, count = self.source, len(candidates)
        padded = np.concatenate([candidates, np.repeat(candidates[-1:], self.candidate_batch - count)])
        y, name = source.conditions.y(padded), source.recipe.name
        z = to_device(source.latent.sample(source.seed, padded), source.device)
        where = phrase("generator {}: candidates {} to {} of {filter}", name, candidates[0], candidates[-1])
        try:
            with synthesis_faults(
                phrase("{}: raised ", where),
                phrase(
                    "{filter}: {} is out of memory at {} candidates, try {batch_size} auto",
                    source.device,
                    self.candidate_batch,
                ),
            ):
                rows = None if y is None else torch.from_numpy(y).to(source.device)
                images = check_images(synthesize(source.generator, z, rows), z, source.generator, where)
                recipe = source.recipe
                log_odds = self.filter.log_odds(to_uint8(images, recipe.uint8, recipe.crop, recipe.resize))
        except OutOfMemoryError:
            self.too_many_candidates = True
            raise
        return log_odds[:count], largest_values(images)[:count]

    def _wait(self, judging: _Judging) -> NDArray[np.float32]:
        """The block's log-odds, once its candidates are known to be images. Shape: ``(M,)``."""
        if judging.done is not None:
            judging.done.synchronize()
        name, candidates = self.source.recipe.name, judging.candidates
        require_sane(
            judging.largest, lambda row: phrase("generator {}: candidate {} of {filter}", name, candidates[row])
        )
        scores: NDArray[np.float32] = judging.log_odds.numpy()
        if not np.isfinite(scores).all():
            raise WeightsError.naming("{filter}: its weights give scores that are not finite")
        return scores


class _Numbered:
    """A batch in progress on the device, whose candidates get the numbers of their pairs."""

    def __init__(self, pending: Pending, indices: NDArray[np.int64]) -> None:
        self.pending, self.indices = pending, indices

    def result(self) -> Batch:
        """See ``Pending.result``."""
        with _numbers_of_candidates():
            return replace(self.pending.result(), indices=self.indices)


@contextmanager
def _numbers_of_candidates() -> Iterator[None]:
    """Add to an error of the wrapped source that the indices it names are those of candidates."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except GeneratorError as error:
        raise GeneratorError.naming("{} (with {filter} these are numbers of candidates)", error) from error.__cause__
