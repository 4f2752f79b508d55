"""Build shards in this process, or in worker processes that each take the next open shard.

The parent talks to workers through pipes, notices when one dies, and ends them when the build ends.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from genrep import errors
from genrep.cli import describe
from genrep.datasets_manifest.manifest import shard_name
from genrep.errors import GeneratorError, GenRepError, phrase
from genrep.files import lock

from ..sources.base import Source
from .shard import Event, Job, build_shard

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

JOIN_SECONDS = 10.0


@contextmanager
def reporting(out: Path, connection: Connection) -> Iterator[None]:
    """Context of a member's work: errors in it are sent to the parent.

    The folder's lock is held meanwhile: a new run waits until a killed run's last processes are gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(folder, fcntl.LOCK_SH, out)
        yield
    except (BrokenPipeError, EOFError, ConnectionResetError):
        pass  # the parent is gone; the open shard's temporary file has been removed on the way here
    except Exception as error:
        kind = type(error).__name__ if isinstance(error, GenRepError) else "GenRepError"
        told = error if isinstance(error, GenRepError) and error.parts else describe(error)
        connection.send(("error", (kind, phrase("{}", told))))
    finally:
        os.close(folder)


@dataclass
class Member:
    """A process, our end of its pipe, and the shard that it is building."""

    process: Any
    connection: Connection
    shard: int | None = None


M = TypeVar("M", bound=Member)


class WorkerProcesses(Generic[M]):
    """The processes of a build; ``name`` and ``before_shards`` say in errors who died, and when."""

    def __init__(self, name: str, before_shards: str) -> None:
        self.name, self.before_shards = name, before_shards
        self.members: list[M] = []

    @staticmethod
    def start(target: Callable[..., None], *arguments: object) -> tuple[Any, Connection]:
        """Start ``target(*arguments, connection)`` in a process of its own; returns it and our end of the pipe."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def ready(self, timeout: float | None = None) -> list[M]:
        """Members that have sent a message; waits for one, at most ``timeout`` seconds."""
        waiting = multiprocessing.connection.wait([member.connection for member in self.members], timeout)
        return [member for member in self.members if member.connection in waiting]

    def send(self, member: M, message: object) -> None:
        """Send a member a message. Raises GeneratorError if it died without sending its error."""
        try:
            member.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            if not member.connection.poll():  # it may have sent its error before it died
                raise self._death(member) from None

    def receive(self, member: M) -> tuple[str, Any]:
        """Receive a member's message. Raises the error that it sent, or GeneratorError if it died."""
        try:
            kind, value = member.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._death(member) from None
        if kind == "error":
            raise getattr(errors, value[0], GenRepError).naming("{}", value[1])
        return kind, value

    def give(self, member: M, shard: int | None) -> None:
        """Give a member its next shard; None ends it."""
        member.shard = shard
        self.send(member, shard)
        if shard is None:
            member.process.join(JOIN_SECONDS)
            member.connection.close()
            self.members.remove(member)

    def _death(self, member: M) -> GeneratorError:
        member.process.join(JOIN_SECONDS)
        at = self.before_shards if member.shard is None else f"at {shard_name(member.shard)}"
        return GeneratorError(f"{self.name} process died {at} (exit code {member.process.exitcode})")

    def stop(self) -> None:
        """End the remaining members."""
        for member in self.members:
            member.process.terminate()
        for member in self.members:
            member.process.join(JOIN_SECONDS)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            member.connection.close()
        self.members = []


def _worker_main(job: Job, connection: Connection) -> None:
    """Run a worker process: build the shards that the parent names, until it sends None or exits."""
    with reporting(job.out, connection):
        source = job.open_source()
        connection.send(("ready", None))
        while (number := connection.recv()) is not None:
            for event in build_shard(job, source, number):
                connection.send(event)


class WorkerPool:
    """Processes that build shards; ``run`` yields what they report."""

    def __init__(self, job: Job, processes: int) -> None:
        self.job, self.processes = job, processes
        self.workers: WorkerProcesses[Member] = WorkerProcesses("a worker", "while it loaded the generator")

    def run(self, numbers: Iterator[int]) -> Iterator[Event]:
        """Build the shards; yields ``("pairs", count)`` and ``("shard", record)``, None for one that others build.

        Raises:
            GenRepError: a worker failed (its error) or died (which one, and at what shard).
        """
        workers = self.workers
        try:
            for _ in range(self.processes):
                workers.members.append(Member(*workers.start(_worker_main, self.job)))
            while workers.members:
                for worker in workers.ready():
                    kind, value = workers.receive(worker)
                    if kind in ("ready", "shard"):
                        workers.give(worker, next(numbers, None))
                    if kind in ("pairs", "shard"):
                        yield kind, value
        finally:
            workers.stop()


def build_here(job: Job, source: Source, numbers: Iterator[int]) -> Iterator[Event]:
    """Build the shards in this process; yields as ``WorkerPool.run``."""
    for number in numbers:
        yield from build_shard(job, source, number)
