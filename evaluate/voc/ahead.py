"""Work done by threads ahead of whoever needs it, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def ahead(
    load: Callable[[int], Result], numbers: range, workers: int | None = None, depth: int | None = None
) -> Iterator[Result]:
    """``load`` of each number in order, by threads that are at most ``depth`` ahead; an error arrives in its turn.

    Args:
        workers: threads; None: one per core.
        depth: None: two per thread.
    """
    workers = workers or len(os.sched_getaffinity(0))
    depth = depth or 2 * workers
    pool = ThreadPoolExecutor(workers, thread_name_prefix="voc-reader")
    waiting: deque[Future[Result]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(load, number))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
