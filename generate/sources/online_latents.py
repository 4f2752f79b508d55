"""What a generator gets for the pairs of a batch, drawn on the CPU ahead of the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from .filtered import FilteredSource
    from .pairs import PairSource

BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Of one batch of pairs, in host memory: page-locked where a GPU will fetch them."""

    indices: NDArray[np.int64]  # (B,)
    labels: Tensor  # (B,) int64
    y: Tensor | None  # (B,) int64
    latents: dict[int, Tensor]  # by view (0 the anchors, k + 1 positive k): (B, d), or (B, G, d) on groups of W layers


class Latents:
    """Draws the inputs of batches: for pair i the ones that the dataset of the same recipe stores for i.

    With a filter the generator is called from two threads: ``ahead``'s makes candidates while the caller makes pairs.
    """

    def __init__(self, pairs: PairSource, choice: FilteredSource | None) -> None:
        import torch

        self.pairs, self.choice = pairs, choice
        self.on_gpu = pairs.device.type == "cuda"
        # Candidates are made beside what the caller's stream does, and nobody but the thread waits for their scores.
        self.stream: torch.cuda.Stream | None = None
        if self.on_gpu and choice is not None:
            self.stream = torch.cuda.Stream(pairs.device)
            self.stream.wait_stream(torch.cuda.current_stream(pairs.device))  # the weights are there

    def draw(self, indices: NDArray[np.int64], views: Iterable[int]) -> Inputs:
        """The inputs of these views of the pairs; the anchors' always.

        Raises:
            GeneratorError, WeightsError: a filter's candidates cannot be made or judged.
        """
        pairs = self.pairs
        chosen = indices if self.choice is None else self.choice.candidates(indices)
        anchors = pairs.latent.sample(pairs.seed, chosen)
        latents = {0: anchors}
        for view in views:
            if view:
                latents[view] = pairs.positives(anchors, chosen, view - 1)
        y = pairs.conditions.y(chosen)
        return Inputs(
            indices=indices,
            labels=self._host(pairs.conditions.label(chosen)),
            y=None if y is None else self._host(y),
            latents={view: self._host(values) for view, values in latents.items()},
        )

    def ahead(self, batches: Iterable[NDArray[np.int64]], views: tuple[int, ...]) -> Generator[Inputs, None, None]:
        """The inputs of one batch after another, of which a thread draws the next ones meanwhile."""
        pending: deque[Future[Inputs]] = deque()
        coming = iter(batches)
        with ThreadPoolExecutor(1, thread_name_prefix="online-latents") as pool:
            try:
                while True:
                    for indices in islice(coming, BATCHES_AHEAD + 1 - len(pending)):
                        pending.append(pool.submit(self._draw_aside, indices, views))
                    if not pending:
                        return
                    yield pending.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _draw_aside(self, indices: NDArray[np.int64], views: tuple[int, ...]) -> Inputs:
        import torch

        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            return self.draw(indices, views)

    def _host(self, values: NDArray[Any]) -> Tensor:
        import torch

        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self.on_gpu else tensor
