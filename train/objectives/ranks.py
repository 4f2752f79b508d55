"""Processes of one training run: values of all ranks, with gradients to the rank that each came from."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_size() -> tuple[int, int]:
    """(0, 1) outside torch.distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


class _Gather(torch.autograd.Function):
    """All ranks' rows, everywhere. Backward: the sum over the ranks of their gradients for this rank's rows."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return _all_gather(local)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rank, size = rank_and_size()
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(size)[rank]


def _all_gather(local: Tensor) -> Tensor:
    _, size = rank_and_size()
    everyone = local.new_empty((size * len(local), *local.shape[1:]))
    dist.all_gather_into_tensor(everyone, local.contiguous())
    return everyone


def gather(local: Tensor) -> Tensor:
    """The rows of all W ranks in the order of the ranks; every rank must bring as many.

    With a loss that is each rank's mean over its own rows, and DDP's mean of the ranks' gradients, what flows back through
    here makes the gradient that of the mean over all rows.

    Shape: ``(B, …) -> (W·B, …)``.
    """
    if rank_and_size()[1] == 1:
        return local
    if not (local.requires_grad and torch.is_grad_enabled()):
        return _all_gather(local)
    gathered: Tensor = _Gather.apply(local)
    return gathered


def gather_views(views: Tensor) -> tuple[Tensor, int]:
    """All ranks' samples, and the place of this rank's first. Shape: ``(V, B, D) -> (V, W·B, D)``."""
    everyone = gather(views.transpose(0, 1)).transpose(0, 1)
    return everyone, rank_and_size()[0] * views.shape[1]


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """This rank's part of the mean over the counted items of all ranks: its mean over the ranks is that mean, 0 of none.

    Args:
        total: Shape ``()``, the sum over this rank's items.
        count: Shape ``()``, how many they are.
    """
    size = rank_and_size()[1]
    everyone = count.to(total.dtype)
    if size > 1:
        dist.all_reduce(everyone)
    return total * size / everyone.clamp(min=1)
