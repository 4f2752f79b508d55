"""The processes of one run: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..devices import pick_device
from ..errors import TrainingError, phrase

Result = TypeVar("Result")
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those of the run."""

    device: torch.device
    rank: int = 0
    size: int = 1
    launcher: int | None = None  # the process that started it, where it is one of several

    @property
    def orphaned(self) -> bool:
        """Whether the launcher has ended: nobody watches over the processes any more, and nobody will end them."""
        return self.launcher is not None and os.getppid() != self.launcher

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def first_does(self, function: Callable[[], Result]) -> Result:
        """Run ``function`` in the first process only, before the others go on. Returns its result in all processes.

        Raises what it raises, everywhere: a GenRepError as it is, anything else as a TrainingError.
        """
        if self.size == 1:
            return function()
        answer: list[Any] = [None, None]
        problem: Exception | None = None
        if self.first:
            try:
                answer[0] = function()
            except Exception as error:
                problem, answer[1] = error, phrase("{}", error)
        dist.broadcast_object_list(answer, src=0, device=torch.device("cpu"))
        if problem is not None:
            raise problem
        if answer[1] is not None:
            raise TrainingError.naming("{}", answer[1])
        result: Result = answer[0]
        return result

    def agree(self, good: bool) -> bool:
        """Whether all processes say so."""
        return good if self.size == 1 else bool(self.mean(torch.tensor([float(good)], device=self.device))[0] == 1)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over the processes, in all of them. Shape: ``(N,) -> (N,)``."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values


@contextmanager
def join(device_name: str) -> Iterator[Processes]:
    """This process with its device, in a process group if torchrun started it; leaves the group at the end.

    Raises TrainingError if there are more processes than GPUs, or another process of the run is gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = pick_device(device_name)
    if size == 1 or dist.is_initialized():
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        yield Processes(device=device, rank=rank, size=size)
        return
    if "MASTER_ADDR" not in os.environ:
        raise TrainingError(f"WORLD_SIZE is {size}, but MASTER_ADDR is not set; wanted both, as torchrun sets them")
    if device.type == "cuda":
        device = _own_gpu()
    launcher = os.getppid()
    dist.init_process_group(BACKENDS[device.type])
    try:
        yield Processes(device=device, rank=dist.get_rank(), size=size, launcher=launcher)
    except RuntimeError as error:
        if not _is_from_a_peer(error):
            raise
        raise TrainingError(f"rank {os.environ['RANK']}: another process of this run ended before") from error
    finally:
        dist.destroy_process_group()


def _own_gpu() -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise TrainingError.naming(
            "{device} cuda: {} GPUs for {} processes or more", torch.cuda.device_count(), local + 1
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _is_from_a_peer(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, dist.DistError) or any(sign in text for sign in ("gloo", "NCCL", "onnection closed"))
