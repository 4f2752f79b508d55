"""Signals of a scheduler or a user, answered between two steps."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ..errors import Terminated

# Seconds in which a second signal is the first one's echo: a scheduler signals every process of a job, and a launcher
# among them passes its own on. A user who presses ^C twice means it, unless a launcher is there.
ECHO = 30.0
LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun


@dataclass
class Requests:
    """The requests of signals since the last look."""

    checkpoint: bool = False  # SIGUSR1: write one and go on
    stop: signal.Signals | None = None  # SIGTERM or SIGINT: write one and end

    def end(self) -> None:
        """End as the signal that asked for it does: with status 143, or 130."""
        raise Terminated if self.stop == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def requests() -> Iterator[Requests]:
    """Listen to SIGUSR1, SIGTERM and SIGINT. A second signal that is not an echo has its former effect at once.

    Python allows no handlers outside the main thread. There, nothing is ever requested.
    """
    found = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    asked_at = 0.0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        now, echo = time.monotonic(), ECHO if signum == signal.SIGTERM or LAUNCHED in os.environ else 0.0
        if found.stop is None:
            found.stop, asked_at = signal.Signals(signum), now
        elif now - asked_at > echo:
            signal.signal(signum, before[signal.Signals(signum)])
            signal.raise_signal(signum)

    def checkpoint(signum: int, frame: FrameType | None) -> None:
        found.checkpoint = True

    before: dict[signal.Signals, Any] = {}
    try:
        for number, handler in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGUSR1, checkpoint)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # of a job that a shell put in the background
                before[number] = signal.signal(number, handler)
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
