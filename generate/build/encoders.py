"""One process on the device, others that encode and write: for a GPU, which must never wait for an encoder or the disk.

Each encoder process owns one open shard at a time and writes it alone, so its bytes are those of any other way to build it.
Images travel through anonymous shared memory (``memfd``), a few slots per encoder, so memory is bounded and a killed run
leaves no segment behind; everything else through the encoder's pipe.
"""

from __future__ import annotations

import mmap
import multiprocessing.reduction
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.datasets_manifest.finish import RECIPE_NAME, FolderLocks, done_shard
from genrep.machine import anonymous_file, cores

from ..sources.base import Batch, OutOfMemoryError
from .shard import Event, Job, ShardWriter, record_shard
from .workers import Member, WorkerProcesses, reporting

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from ..sources.base import LaunchSource, PendingBatch

SLOTS = 3  # batches in flight per encoder: one being encoded, one waiting, one being filled
IN_FLIGHT = 2  # batches in progress on the device
MAX_ENCODERS = 8  # most encoders per generating process; more do not help, since the GPU makes images no faster


class _Slots:
    """Shared memory for the images and latents of SLOTS batches."""

    def __init__(self, descriptor: int, fields: list[dict[str, Any]], batch_size: int) -> None:
        self.memory = mmap.mmap(descriptor, self.size(fields, batch_size))
        self.images: list[NDArray[np.uint8]] = []  # per view (SLOTS, B, H, W, 3)
        self.latents: list[NDArray[np.float32]] = []  # per view (SLOTS, B, d) or (SLOTS, B, G, d)
        offset = 0
        for row in _array_fields(fields):
            shape = (SLOTS, batch_size, *row["shape"])
            count = int(np.prod(shape))
            if row["kind"] == "float32":  # these come first: their offsets stay aligned
                self.latents.append(np.frombuffer(self.memory, "<f4", count, offset).reshape(shape))
            else:
                self.images.append(np.frombuffer(self.memory, np.uint8, count, offset).reshape(shape))
            offset += count * (4 if row["kind"] == "float32" else 1)

    @staticmethod
    def size(fields: list[dict[str, Any]], batch_size: int) -> int:
        """Bytes that the slots take."""
        values = sum(
            int(np.prod(row["shape"])) * (4 if row["kind"] == "float32" else 1) for row in _array_fields(fields)
        )
        return SLOTS * batch_size * values

    def put(self, slot: int, batch: Batch) -> Batch:
        """Copy a batch into a slot; returns what is left to send."""
        for target, images in zip(self.images, batch.images):
            target[slot, : len(images)] = images
        for place, latents in zip(self.latents, batch.latents):
            place[slot, : len(latents)] = latents
        return replace(batch, images=[], latents=[])

    def get(self, slot: int, rest: Batch) -> Batch:
        """The batch in a slot, without a copy."""
        count = len(rest.indices)
        return replace(
            rest,
            images=[array[slot, :count] for array in self.images],
            latents=[array[slot, :count] for array in self.latents],
        )


def _array_fields(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    latents = [row for row in fields if row["kind"] == "float32"]
    return latents + [row for row in fields if row["kind"] == "image"]


def _encoder_main(job: Job, batch_size: int, connection: Connection) -> None:
    """Run an encoder process: write the shards that the parent begins, until it sends None or exits."""
    with reporting(job.out, connection):
        descriptor = multiprocessing.reduction.recv_handle(connection)
        slots = _Slots(descriptor, job.plan.fields, batch_size)
        os.close(descriptor)
        connection.send(("ready", None))
        with FolderLocks(job.out / RECIPE_NAME) as locks:
            while (number := connection.recv()) is not None:
                with locks.shard(number) as ours:
                    _encode_shard(job, connection, slots, number, ours, batch_size)


def _encode_shard(job: Job, connection: Connection, slots: _Slots, number: int, ours: bool, batch_size: int) -> None:
    """Answer ``("shard", record)``. The record is of a shard found done or built here; None = another builds it."""
    found = done_shard(job.out, job.plan.recipe, number) if ours else None
    if not ours or found is not None:
        connection.send(("shard", found))
        return
    connection.send(("open", None))
    started = time.monotonic()
    with ShardWriter.of(job, number) as writer:
        while (message := connection.recv()) is not None:
            slot, rest = message
            writer.append(slots.get(slot, rest))
            connection.send(("free", (slot, len(rest.indices))))
        digests = writer.finish()
    connection.send(("shard", record_shard(job, number, digests, batch_size, time.monotonic() - started)))


@dataclass(kw_only=True)
class _Encoder(Member):
    slots: _Slots
    free: list[int] = field(default_factory=lambda: list(range(SLOTS)))
    ranges: Iterator[NDArray[np.int64]] | None = None  # batches of the open shard that are not launched yet
    exhausted: bool = True


class EncoderPool:
    """Encoder processes fed by a source in this process; ``run`` yields what ``workers.WorkerPool.run`` does."""

    def __init__(self, job: Job, source: LaunchSource, processes: int) -> None:
        self.job, self.source, self.processes = job, source, processes
        self.encoders: WorkerProcesses[_Encoder] = WorkerProcesses("an encoder", "before its first shard")
        self.pending: deque[tuple[_Encoder, int, PendingBatch]] = deque()

    def run(self, numbers: Iterator[int]) -> Iterator[Event]:
        """Build the shards. Raises GenRepError: the generator or an encoder failed, or an encoder died."""
        self.numbers = numbers
        try:
            self._fit_batch()
            self._start()
            while self.encoders.members or self.pending:
                launched = self._launch_one()
                if len(self.pending) >= IN_FLIGHT or (self.pending and not launched):
                    self._deliver()
                idle = not launched and not self.pending
                for encoder in self.encoders.ready(None if idle and self.encoders.members else 0):
                    yield from self._hear(encoder)
        finally:
            self.pending.clear()
            self.encoders.stop()

    def _fit_batch(self) -> None:
        """Find the largest batch that the device holds, before the slots get its size."""
        while True:
            try:
                indices = next(iter(self.source.ranges(0, self.job.plan.num_pairs)))
                self.source.launch(indices).result()
                return
            except OutOfMemoryError:
                if self.job.first_batch is None or self.source.batch_size == 1:
                    raise
            self.source.halve_batch()

    def _start(self) -> None:
        fields, batch_size = self.job.plan.fields, self.source.batch_size
        for _ in range(self.processes):
            process, connection = self.encoders.start(_encoder_main, self.job, batch_size)
            descriptor = anonymous_file("genrep-batches")
            os.ftruncate(descriptor, _Slots.size(fields, batch_size))
            multiprocessing.reduction.send_handle(connection, descriptor, process.pid)
            self.encoders.members.append(_Encoder(process, connection, slots=_Slots(descriptor, fields, batch_size)))
            os.close(descriptor)

    def _launch_one(self) -> bool:
        """Begin one batch for the encoder that has most room; False if none can take one."""
        able = [encoder for encoder in self.encoders.members if encoder.ranges is not None and encoder.free]
        if not able:
            return False
        encoder = max(able, key=lambda item: len(item.free))
        assert encoder.ranges is not None
        indices = next(encoder.ranges, None)
        if indices is None:
            encoder.ranges = None
            encoder.exhausted = True
            self._end_if_delivered(encoder)
            return True
        slot = encoder.free.pop()
        self.pending.append((encoder, slot, self.source.launch(indices)))
        return True

    def _deliver(self) -> None:
        """Wait for the oldest batch and hand it to its encoder."""
        encoder, slot, pending = self.pending.popleft()
        self.encoders.send(encoder, (slot, encoder.slots.put(slot, pending.result())))
        self._end_if_delivered(encoder)

    def _end_if_delivered(self, encoder: _Encoder) -> None:
        if encoder.exhausted and not any(owner is encoder for owner, _, _ in self.pending):
            self.encoders.send(encoder, None)
            encoder.exhausted = False

    def _hear(self, encoder: _Encoder) -> Iterator[Event]:
        kind, value = self.encoders.receive(encoder)
        if kind == "open":
            assert encoder.shard is not None
            shard = self.job.plan.shard(encoder.shard)
            encoder.ranges, encoder.exhausted = self.source.ranges(shard.first_index, shard.count), False
        if kind == "free":
            encoder.free.append(value[0])
            yield "pairs", value[1]
        if kind == "shard":
            yield kind, value
        if kind in ("ready", "shard"):
            self.encoders.give(encoder, next(self.numbers, None))


def encoders_here(most: int = MAX_ENCODERS) -> int:
    """Encoder processes for this machine's cores, beside the one that generates."""
    return min(max(1, cores() - 1), most)
