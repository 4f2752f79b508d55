"""Signals of a scheduler, answered between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

# Seconds in which a second SIGTERM is the first one's echo: a scheduler signals every process of a job, and a launcher
# among them passes its own on.
ECHO = 30.0


@dataclass
class Requests:
    """What signals have asked for since it was last looked at."""

    checkpoint: bool = False  # SIGUSR1: write one and go on
    stop: bool = False  # SIGTERM: write one and end


@contextmanager
def requests() -> Iterator[Requests]:
    """Listen to SIGUSR1 and SIGTERM. Another SIGTERM after ``ECHO`` seconds does what SIGTERM did before, at once.

    In a thread other than the main one, where Python allows no handlers, nothing is ever asked for.
    """
    found = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    asked_at = 0.0

    def terminate(signum: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        now = time.monotonic()
        if not found.stop:
            found.stop, asked_at = True, now
        elif now - asked_at > ECHO:
            signal.signal(signal.SIGTERM, before[signal.SIGTERM])
            signal.raise_signal(signal.SIGTERM)

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
