"""Similarities between images: rows are this rank's, columns are all ranks'; and what they tell of a training."""

from __future__ import annotations

import torch
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
