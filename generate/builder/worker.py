"""Building shards: in this process, or in several that each take the next open one."""

from __future__ import annotations

import fcntl
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genrep import errors
from genrep.cli import describe
from genrep.datasets_manifest.manifest import Shard as ShardRecord
from genrep.datasets_manifest.manifest import shard_name, write_shard_record
from genrep.errors import GeneratorError, GenRepError
from genrep.files import lock

from ..generators.load import open_generator
from ..recipe import Recipe, load_recipe
from .plan import BuildConfig, Plan

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from .pairs import PairSource

JOIN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every process of a build is told."""

    config: BuildConfig
    plan: Plan
    device: str


def build_shard(job: Job, source: PairSource, number: int, on_pairs: Callable[[int], None]) -> ShardRecord:
    """Generate, write and record one shard; ``on_pairs`` hears of each batch."""
    from .shard import ShardWriter

    started, shard = time.monotonic(), job.plan.shard(number)
    path = job.config.out / shard_name(number)
    with ShardWriter(path, job.plan.field_table(), shard.count) as writer:
        for batch in source.batches(shard.first_index, shard.count):
            writer.append(batch)
            on_pairs(len(batch.indices))
        digests = writer.finish()
    facts = {
        "dataset_id": job.plan.id,
        "device": job.device,
        "batch_size": job.config.batch_size,
        "threads": job.config.threads,
        "seconds": round(time.monotonic() - started, 3),
    }
    record = ShardRecord(name=path.name, first_index=shard.first_index, count=shard.count, facts=facts, **digests)
    write_shard_record(job.config.out, record)
    return record


def make_source(job: Job, recipe: Recipe, generator: Any) -> PairSource:
    """The pair source of this process, with the job's number of threads."""
    import torch

    from .pairs import PairSource

    torch.set_num_threads(job.config.threads)
    return PairSource(job.plan, recipe, generator, batch_size=job.config.batch_size, device=torch.device(job.device))


def _worker_main(job: Job, connection: Connection) -> None:
    """A worker process: build the shards that the parent names, until it says None or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    folder = os.open(job.config.out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(folder, fcntl.LOCK_SH, job.config.out)
        recipe = load_recipe(job.config.gen)
        source = make_source(job, recipe, open_generator(recipe, job.config.weights, job.device).generator)
        connection.send(("ready", None))
        while (number := connection.recv()) is not None:
            record = build_shard(job, source, number, lambda count: connection.send(("pairs", count)))
            connection.send(("shard", (number, record)))
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

    def run(self, numbers: list[int]) -> Iterator[tuple[str, Any]]:
        """Build the shards; yields ``("pairs", count)`` and ``("shard", record)``.

        Raises:
            GenRepError: a worker failed (its error) or died (which one, and at what shard).
        """
        todo = iter(numbers)
        try:
            self._start()
            while self.workers:
                for worker in self._ready():
                    kind, value = self._receive(worker)
                    if kind == "error":
                        raise getattr(errors, value[0], GenRepError)(value[1])
                    if kind in ("ready", "shard"):
                        worker.shard = next(todo, None)
                        worker.connection.send(worker.shard)
                        if worker.shard is None:
                            self._retire(worker)
                    if kind == "pairs":
                        yield kind, value
                    if kind == "shard":
                        yield kind, value[1]
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


def build_here(job: Job, source: PairSource, numbers: list[int]) -> Iterator[tuple[str, Any]]:
    """Build the shards in this process; yields as ``WorkerPool.run``."""
    for number in numbers:
        counts: list[int] = []
        record = build_shard(job, source, number, counts.append)
        yield "pairs", sum(counts)
        yield "shard", record
