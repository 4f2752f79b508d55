"""Progress for long work: a tqdm bar on a terminal, plain log lines elsewhere, nothing where quiet is asked for."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from .files import size_text
from .untrusted import line

LOG_EVERY_SECONDS = 30.0
LOOK_EVERY_SECONDS = 1.0  # at the GPU's memory
QUIET_VARIABLE = "GENREP_QUIET"  # what --quiet sets, for the processes that a command starts too


def quiet() -> bool:
    """Whether neither notes nor progress are wanted."""
    return os.environ.get(QUIET_VARIABLE, "") not in ("", "0")


def note(text: str) -> None:
    """Tell the user a line on stderr: escaped and cut, whatever names it holds."""
    if not quiet():
        print(line(text), file=sys.stderr, flush=True)


class Progress:
    """Counts ``unit``s towards ``total`` on stderr, with rate, time left, and the peak of the GPU's memory if one is in use.

    >>> with Progress(10_000, "pair", "building") as progress:
    ...     progress.update(64)
    """

    def __init__(self, total: int, unit: str, label: str, *, initial: int = 0, silent: bool = False) -> None:
        label = line(label, 200)
        self.total, self.unit, self.label = total, unit, label
        self.initial = self.done = initial
        self.started = self.logged = time.monotonic()
        self.looked = self.started - LOOK_EVERY_SECONDS
        self.memory: dict[str, float | str] = {}
        self.silent = silent or quiet()  # counts only: of several processes one is enough to tell
        self.bar = None
        if sys.stderr.isatty() and not self.silent:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, initial=initial, unit=unit, desc=label, dynamic_ncols=True, unit_scale=total > 10_000
            )

    def update(self, count: int, **facts: float | str) -> None:
        """Add ``count`` to the finished items, and show ``facts`` beside the bar."""
        self.done += count
        if self.bar is not None:
            if shown := {**facts, **self._memory()}:
                self.bar.set_postfix({name: _safe(value) for name, value in shown.items()}, refresh=False)
            self.bar.update(count)
        elif not self.silent and time.monotonic() - self.logged >= LOG_EVERY_SECONDS:
            self.logged = time.monotonic()
            shown = {**facts, **self._memory()}
            told = "".join(f", {name} {value}" for name, value in shown.items())
            note(f"{self.label}: {self.done}/{self.total} {self.unit}s, {self.rate():.1f}/s{self._left()}{told}")

    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self.initial) / max(time.monotonic() - self.started, 1e-9)

    def _left(self) -> str:
        """The time left at this rate; empty where the total is not known."""
        rate = self.rate()
        return f", {clock((self.total - self.done) / rate)} left" if self.total > self.done and rate > 0 else ""

    def _memory(self) -> dict[str, float | str]:
        """The GPU's fact, looked at once in a while: it costs a part of a millisecond."""
        now = time.monotonic()
        if now - self.looked >= LOOK_EVERY_SECONDS:
            self.looked, peak = now, gpu_memory()
            self.memory = {} if peak is None else {"GPU": size_text(peak)}
        return self.memory

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as a bar shows them.

    >>> clock(59.6), clock(3700)
    ('1:00', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def gpu_memory() -> int | None:
    """The most bytes that this process has held on a GPU; None if it uses none. Imports no torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    peaks = [torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count())]
    return max(peaks, default=0) or None


def _safe(value: float | str) -> float | str:
    return line(value, 60) if isinstance(value, str) else value
