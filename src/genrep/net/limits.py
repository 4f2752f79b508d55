"""Limits of a transfer: failures that a retry may or may not mend, waiting times, and the end of all threads if one fails."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

MAX_DELAY = 60.0  # seconds between two attempts
STALL = 3  # failures that one silence counts for: whoever waits for a dead server hears of it in minutes
NEWS = 1 << 20  # bytes further than ever before: failures are counted from one again
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How patient a transfer is."""

    timeout: float = 60.0  # seconds to connect, and over which the rate below is taken
    min_rate: float = 4096.0  # bytes per second; a slower connection is given up as one that stands still
    retries: int = 5  # further attempts after one that got nowhere
    backoff: float = 1.0  # seconds before the second attempt; doubles with each, less a random part of up to half


class Refused(Exception):
    """An answer, or a failure, that another try would not change. The text says which."""


class Missing(Refused):
    """The file does not exist, or may not be read."""


class Lost(Exception):
    """A failure that another try may mend.

    Args:
        wait: not before so many seconds.
        unreachable: there was no connection at all.
        stalled: it took the whole time limit to see it.
    """

    def __init__(self, reason: str, *, wait: float = 0.0, unreachable: bool = False, stalled: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.unreachable, self.stalled = wait, unreachable, stalled


class RangeRefused(Lost):
    """The part that is here already cannot be used: start over."""


class Stopped(Exception):
    """Another thread failed, or the user had enough."""


class Stop:
    """The end of a transfer, for all of its threads."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()

    def set(self) -> None:
        """Wake all waiting threads, including those that wait for the network."""
        with self._lock:
            self._event.set()
            for watch in self._watches:
                watch.abort()

    def check(self) -> None:
        """Raises Stopped after the end."""
        if self._event.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep. Raises Stopped at the end."""
        if self._event.wait(seconds):
            raise Stopped

    def add(self, watch: Watch) -> None:
        """Abort it at the end."""
        with self._lock:
            self._watches.add(watch)

    def discard(self, watch: Watch) -> None:
        """Stop watching a transfer that is over."""
        with self._lock:
            self._watches.discard(watch)


class Watch:
    """Ends a connection that is slower than the limits say, in whatever part of its protocol that is."""

    def __init__(self, limits: Limits, stop: Stop) -> None:
        self.limits, self.stop = limits, stop
        self.expired = False
        self._count = 0
        self._socket: socket.socket | None = None
        self._closed = threading.Event()
        stop.add(self)
        threading.Thread(target=self._run, daemon=True).start()

    def attach(self, connection: socket.socket) -> None:
        """Watch this connection from now on."""
        self._socket = connection
        self.stop.check()

    def count(self, size: int) -> None:
        """So many bytes came."""
        self._count += size

    def abort(self) -> None:
        """End the connection; a thread that reads from it sees its end."""
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS's own would change what the reader uses

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self.stop.discard(self)

    def _run(self) -> None:
        seen, least = 0, self.limits.min_rate * self.limits.timeout
        while not self._closed.wait(self.limits.timeout):
            if self._count - seen < least:
                self.expired = True
                self.abort()
                return
            seen = self._count


class Patience:
    """The patience that is left for one file."""

    def __init__(self, limits: Limits, stop: Stop) -> None:
        self.limits, self.stop = limits, stop
        self.failures = self.furthest = 0

    def again(self, error: Lost, reached: int = 0) -> None:
        """Wait before another attempt, the last one having come to byte ``reached``. Raises ``error`` after too many."""
        self.stop.check()
        failed = STALL if error.stalled else 1
        self.failures = 1 if reached >= self.furthest + NEWS else self.failures + failed
        self.furthest = max(self.furthest, reached)
        if self.failures > self.limits.retries:
            raise error
        delay = min(MAX_DELAY, self.limits.backoff * 2 ** (self.failures - 1))
        self.stop.wait(max(delay * random.SystemRandom().uniform(0.5, 1), min(error.wait, MAX_DELAY)))


def persist(action: Callable[[], Result], limits: Limits, stop: Stop) -> Result:
    """Do it until it is not Lost. Raises the last Lost, and whatever else it raises."""
    patience = Patience(limits, stop)
    while True:
        try:
            return action()
        except Lost as error:
            patience.again(error)
