"""Progress for long work: a tqdm bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from .untrusted import line

LOG_EVERY_SECONDS = 30.0


def note(text: str) -> None:
    """Tell the user a line on stderr: escaped and cut, whatever names it holds."""
    print(line(text), file=sys.stderr, flush=True)


class Progress:
    """Counts ``unit``s towards ``total`` on stderr, with rate and time left.

    >>> with Progress(10_000, "pair", "building") as progress:
    ...     progress.update(64)
    """

    def __init__(self, total: int, unit: str, label: str, *, initial: int = 0, silent: bool = False) -> None:
        label = line(label, 200)
        self.total, self.unit, self.label = total, unit, label
        self.initial = self.done = initial
        self.started = self.logged = time.monotonic()
        self.silent = silent  # counts only: of several processes one is enough to tell
        self.bar = None
        if sys.stderr.isatty() and not silent:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, initial=initial, unit=unit, desc=label, dynamic_ncols=True, unit_scale=total > 10_000
            )

    def update(self, count: int, **facts: float | str) -> None:
        """Add ``count`` to what is done; ``facts`` are shown beside it."""
        self.done += count
        if self.bar is not None:
            if facts:
                self.bar.set_postfix({name: _safe(value) for name, value in facts.items()}, refresh=False)
            self.bar.update(count)
        elif not self.silent and time.monotonic() - self.logged >= LOG_EVERY_SECONDS:
            self.logged = time.monotonic()
            shown = "".join(f", {name} {value}" for name, value in facts.items())
            note(f"{self.label}: {self.done}/{self.total} {self.unit}s, {self.rate():.1f}/s{shown}")

    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self.initial) / max(time.monotonic() - self.started, 1e-9)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()


def _safe(value: float | str) -> float | str:
    return line(value, 60) if isinstance(value, str) else value
