"""Signals of a scheduler, answered between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Requests:
    """What signals have asked for since it was last looked at."""

    checkpoint: bool = False  # SIGUSR1: write one and go on
    stop: bool = False  # SIGTERM: write one and end


@contextmanager
def requests() -> Iterator[Requests]:
    """Listen to SIGUSR1 and SIGTERM. A second SIGTERM does what SIGTERM did before, at once.

    In a thread other than the main one, where Python allows no handlers, nothing is ever asked for.
    """
    found = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def terminate(signum: int, frame: FrameType | None) -> None:
        found.stop = True
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])

    def checkpoint(signum: int, frame: FrameType | None) -> None:
        found.checkpoint = True

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: terminate,
        signal.SIGUSR1: checkpoint,
    }
    before: dict[signal.Signals, Any] = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
