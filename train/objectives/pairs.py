"""Similarities between images: rows are this rank's, columns are all ranks'."""

from __future__ import annotations

import torch
from torch import Tensor


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
