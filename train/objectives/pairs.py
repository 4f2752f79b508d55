"""Similarities between images, and metrics made of them. Rows are this rank's images, columns are all ranks'.

Values of all ranks are gathered with gradients to the rank that each came from.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from genrep.infonce import relative_std

from .base import full_precision


def logits(views: Tensor, everyone: Tensor, temperature: float) -> Tensor:
    """Inner products of all images with all images over τ. Shape: ``(V, B, D), (V, N, D) -> (V, B, V, N)``."""
    number, size, dim = views.shape
    scores = views.reshape(-1, dim) @ everyone.reshape(-1, dim).T / temperature  # (V·B, V·N)
    return scores.view(number, size, number, -1)


def leave_out_self(scores: Tensor, first: int) -> Tensor:
    """-∞ at each image's similarity with itself, in place. Shape: ``(V, B, V, N) -> (V, B, V, N)``."""
    own = torch.arange(scores.shape[1], device=scores.device)
    for view in range(len(scores)):
        scores[view, own, view, first + own] = float("-inf")
    return scores


def leave_out_sample(scores: Tensor, first: int) -> Tensor:
    """-∞ at each image's similarity with all views of its sample, in place. Shape: ``(V, B, V, N) -> (V, B, V, N)``."""
    own = torch.arange(scores.shape[1], device=scores.device)
    for row in range(len(scores)):
        for column in range(len(scores)):
            scores[row, own, column, first + own] = float("-inf")
    return scores


def log_sum_exp(scores: Tensor) -> Tensor:
    """Over an image's columns. Shape: ``(V, B, V, N) -> (V, B)``."""
    return scores.flatten(2).logsumexp(dim=2)


def within_samples(views: Tensor, others: Tensor) -> Tensor:
    """Inner products of each sample's views. Shape: ``(V, B, D), (V, B, D) -> (V, V, B)``."""
    return torch.einsum("vbd,ubd->vub", views, others)


def between_views(values: Tensor) -> Tensor:
    """The mean over the other views; the diagonal, a view with itself, is left out. Shape: ``(V, V, …) -> (V, …)``."""
    number = len(values)
    other = 1 - torch.eye(number, dtype=values.dtype, device=values.device)
    return torch.einsum("vu...,vu->v...", values, other) / (number - 1)


@torch.no_grad()
def measures(embeddings: Tensor) -> dict[str, Tensor]:
    """Numbers to log, of this rank's samples; every now and then, since uniformity compares all of them.

    ``embedding_std``: 1 for rows spread evenly over the sphere, 0 for a collapse (infonce.relative_std), NaN for one
    sample. ``alignment``: mean squared distance of a sample's views. ``uniformity``: the logarithm of the mean of
    exp(-2 d²) over pairs of samples in view 0, 0 for a collapse (Wang & Isola 2020, with α = 2, t = 2).

    Args:
        embeddings: Shape ``(V, B, D)``, rows of unit length; ``Output.embeddings``.
    """
    views, size, _ = embeddings.shape
    found = {"embedding_std": relative_std(embeddings[0]) if size > 1 else embeddings.new_tensor(float("nan"))}
    with full_precision(embeddings):
        if views > 1:
            found["alignment"] = 2 - 2 * between_views(within_samples(embeddings, embeddings)).mean()
        if size > 1:
            close = ((embeddings[0] @ embeddings[0].T - 1) * 4).exp()  # exp(-2 d²), d² = 2 - 2 cos
            found["uniformity"] = ((close.sum() - close.diagonal().sum()) / (size * (size - 1))).log()
    return found


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
