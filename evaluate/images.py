"""Batches of labelled images, decoded ahead by threads a few batches at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError
from genrep.images.labelled import LabelledImages

from .transforms import Pixels, Transform

Ints = NDArray[np.int64]
AHEAD = 3  # batches that are decoded before they are asked for
CHUNK = 16  # images that a thread decodes at a time


def whole_batches(
    data: LabelledImages, transform: Transform, batch_size: int, workers: int | None = None
) -> Iterator[Pixels]:
    """All images in order, without randomness. Shape of each: ``(<= batch_size, H, W, 3)``.

    Raises:
        DataError: an image cannot be read, or images come in several sizes.
    """
    starts = range(0, len(data), batch_size)
    if data.pixels is not None and transform.changes_nothing:
        yield from (data.pixels[start : start + batch_size] for start in starts)
        return
    rows = (np.arange(start, min(start + batch_size, len(data))) for start in starts)
    yield from decoded(rows, lambda i: transform(data.open(i)), data, workers)


def decoded(
    batches: Iterable[Ints], render: Callable[[int], Pixels], data: LabelledImages, workers: int | None = None
) -> Iterator[Pixels]:
    """``render`` of each row, by threads that work a few batches ahead; in order, whatever their number.

    Shape of each: ``(len(rows), H, W, 3)``.
    """

    def chunk(rows: Ints) -> list[Pixels]:
        return [render(int(i)) for i in rows]

    pending: deque[tuple[Ints, list[Future[list[Pixels]]]]] = deque()
    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="decode")
    try:
        for rows in batches:
            pending.append((rows, [pool.submit(chunk, rows[k : k + CHUNK]) for k in range(0, len(rows), CHUNK)]))
            if len(pending) > AHEAD:
                yield _together(*pending.popleft(), data)
        while pending:
            yield _together(*pending.popleft(), data)
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """One per core that this process may use."""
    return len(os.sched_getaffinity(0))


def _together(rows: Ints, parts: list[Future[list[Pixels]]], data: LabelledImages) -> Pixels:
    images = [image for part in parts for image in part.result()]
    for i, image in zip(rows, images):
        if image.shape != images[0].shape:
            (h0, w0), (h1, w1) = images[0].shape[:2], image.shape[:2]
            raise DataError(
                f"{data.where(i)}: {h1}x{w1} pixels where others have {h0}x{w0}; give --size to resize them"
            )
    return np.stack(images)
