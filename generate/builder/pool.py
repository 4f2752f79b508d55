"""Building shards: in this process, or in several that each take the next open one."""

from __future__ import annotations

import fcntl
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genrep import errors
from genrep.cli import describe
from genrep.datasets_manifest.manifest import shard_name
from genrep.errors import GeneratorError, GenRepError
from genrep.files import lock

from .job import Event, Job, build_shard
from .source import Source

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

JOIN_SECONDS = 10.0


def _worker_main(job: Job, connection: Connection) -> None:
    """A worker process: build the shards that the parent names, until it says None or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    folder = os.open(job.out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(folder, fcntl.LOCK_SH, job.out)
        source = job.open_source()
        connection.send(("ready", None))
        while (number := connection.recv()) is not None:
            for event in build_shard(job, source, number):
                connection.send(event)
    except (BrokenPipeError, EOFError, ConnectionResetError):
        pass  # the parent is gone; the open shard's temporary file has been removed on the way here
    except Exception as error:
        kind = type(error).__name__ if isinstance(error, GenRepError) else "GenRepError"
        connection.send(("error", (kind, describe(error))))
    finally:
        os.close(folder)


@dataclass
class _Worker:
    process: Any
    connection: Connection
    shard: int | None = None


class WorkerPool:
    """Processes that build shards; ``run`` yields what they report."""

    def __init__(self, job: Job, processes: int) -> None:
        self.job, self.processes = job, processes
        self.workers: list[_Worker] = []

    def run(self, numbers: Iterator[int]) -> Iterator[Event]:
        """Build the shards; yields ``("pairs", count)`` and ``("shard", record)``, None for one that others build.

        Raises:
            GenRepError: a worker failed (its error) or died (which one, and at what shard).
        """
        try:
            self._start()
            while self.workers:
                for worker in self._ready():
                    kind, value = self._receive(worker)
                    if kind == "error":
                        raise getattr(errors, value[0], GenRepError)(value[1])
                    if kind in ("ready", "shard"):
                        worker.shard = next(numbers, None)
                        worker.connection.send(worker.shard)
                        if worker.shard is None:
                            self._retire(worker)
                    if kind == "pairs":
                        yield kind, value
                    if kind == "shard":
                        yield kind, value
        finally:
            self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker_main, args=(self.job, theirs), daemon=True)
            process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours))

    def _ready(self) -> list[_Worker]:
        waiting = multiprocessing.connection.wait([worker.connection for worker in self.workers])
        return [worker for worker in self.workers if worker.connection in waiting]

    def _receive(self, worker: _Worker) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = worker.connection.recv()
            return message
        except (EOFError, ConnectionResetError):
            worker.process.join(JOIN_SECONDS)
            at = "while it loaded the generator" if worker.shard is None else f"at {shard_name(worker.shard)}"
            raise GeneratorError(f"a worker process died {at} (exit code {worker.process.exitcode})") from None

    def _retire(self, worker: _Worker) -> None:
        worker.process.join(JOIN_SECONDS)
        worker.connection.close()
        self.workers.remove(worker)

    def _stop(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(JOIN_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self.workers = []


def build_here(job: Job, source: Source, numbers: Iterator[int]) -> Iterator[Event]:
    """Build the shards in this process; yields as ``WorkerPool.run``."""
    for number in numbers:
        yield from build_shard(job, source, number)
