"""Building shards: in this process, or in several that each take the next open one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .crew import Crew, Member, reporting
from .job import Event, Job, build_shard
from ..sources.base import Source

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def _worker_main(job: Job, connection: Connection) -> None:
    """A worker process: build the shards that the parent names, until it says None or is gone."""
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
        self.crew: Crew[Member] = Crew("a worker", "while it loaded the generator")

    def run(self, numbers: Iterator[int]) -> Iterator[Event]:
        """Build the shards; yields ``("pairs", count)`` and ``("shard", record)``, None for one that others build.

        Raises:
            GenRepError: a worker failed (its error) or died (which one, and at what shard).
        """
        crew = self.crew
        try:
            for _ in range(self.processes):
                crew.members.append(Member(*crew.start(_worker_main, self.job)))
            while crew.members:
                for worker in crew.ready():
                    kind, value = crew.receive(worker)
                    if kind in ("ready", "shard"):
                        crew.give(worker, next(numbers, None))
                    if kind in ("pairs", "shard"):
                        yield kind, value
        finally:
            crew.stop()


def build_here(job: Job, source: Source, numbers: Iterator[int]) -> Iterator[Event]:
    """Build the shards in this process; yields as ``WorkerPool.run``."""
    for number in numbers:
        yield from build_shard(job, source, number)
