"""Which of a dataset's open shards this call builds: all, those of an array job's part, or the next of torchrun's counter.

Ranks of torchrun take the next shard from one counter, so that a slow GPU delays nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from genrep.errors import RecipeError

from ..plans.plan import Plan

STORE_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which shards this call builds, and whether others are at work in the same folder."""

    shared: bool
    numbers: Callable[[list[int]], Iterator[int]]  # from the open shards to those that this call takes


ALL = Share(shared=False, numbers=iter)


def part_of(k: int, n: int) -> Share:
    """The shards i = k (mod n), of an array job's part k of n."""
    return Share(shared=True, numbers=lambda todo: iter([number for number in todo if number % n == k]))


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This process among those that torchrun started."""

    local: int  # on this machine
    address: str
    port: int
    attempt: str  # restarts of torchrun's elastic agent so far: each begins a counter of its own

    def device(self, name: str) -> str:
        """``auto`` and ``cuda`` become this rank's GPU."""
        import torch

        if name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return name

    def share(self, plan: Plan) -> Share:
        """The next open shards, as the counter in torch's store gives them out."""

        def numbers(todo: list[int]) -> Iterator[int]:
            from torch.distributed import DistNetworkError, DistStoreError, TCPStore  # type: ignore[attr-defined]

            wanted = set(todo)
            try:
                store = TCPStore(self.address, self.port, is_master=False, timeout=STORE_TIMEOUT)
                # Every rank counts over all shards: what was done when it began it skips.
                while (number := store.add(f"genrep/{plan.id}/{self.attempt}", 1) - 1) < plan.num_shards:
                    if number in wanted:
                        yield number
            except (DistNetworkError, DistStoreError) as error:
                raise RecipeError(f"torchrun's store at {self.address}:{self.port} does not answer ({error})") from None

        return Share(shared=True, numbers=numbers)


def this_rank() -> Rank | None:
    """The rank that torchrun's environment names; None outside torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    try:
        return Rank(
            local=int(os.environ["LOCAL_RANK"]),
            address=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
            attempt=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
    except (KeyError, ValueError) as error:
        raise RecipeError(f"torchrun's environment is incomplete ({error})") from None
